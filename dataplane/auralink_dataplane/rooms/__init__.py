"""What a pod decides about its rooms. Pure: facts and the time in, decisions out."""
