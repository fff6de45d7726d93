"""Private names of Ray that programs use all the same."""
