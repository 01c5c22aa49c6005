"""`make demo`: the product's main job, shown step by step and measured from outside."""
