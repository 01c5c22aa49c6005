"""Media of one pod: packets come from the crate as whole frames, the AI Core answers them, legs name the peers."""
