"""LiteLLM: what the LLM gateway cost, and who spent it, from its database."""
