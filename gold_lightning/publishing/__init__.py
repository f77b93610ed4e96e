"""Cards of a student and of its samples, and pushing both to a Hugging Face hub."""
