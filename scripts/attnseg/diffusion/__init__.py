"""The diffusion model: loading, attention, extraction, generation and fine-tuning."""
