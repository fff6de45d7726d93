"""What Ray keeps for its own parts and people use all the same: helpers for tests."""
