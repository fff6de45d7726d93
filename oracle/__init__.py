"""The oracle: small programs that are run under Ray and under Mobula, and must print the same."""
