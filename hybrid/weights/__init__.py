"""What a run starts from: files of weights, the Hugging Face hub, an earlier run."""
