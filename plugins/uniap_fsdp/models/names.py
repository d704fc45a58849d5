"""Which families have a torch model here; imports no torch."""

FAMILIES = ("llama", "gpt", "bert", "t5")
