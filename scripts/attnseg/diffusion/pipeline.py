"""Networks as the pipeline of diffusers that users know; it shares them."""

from diffusers import SchedulerMixin, StableDiffusionPipeline


def assembled(vae, text_encoder, tokenizer, unet, scheduler) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def pipeline_of(parts, scheduler: SchedulerMixin | None = None) -> StableDiffusionPipeline:
    """A model's parts, with `scheduler` in place of their own where it is given."""
    networks = (parts.vae, parts.text_encoder, parts.tokenizer, parts.unet)
    return assembled(*networks, parts.scheduler if scheduler is None else scheduler)
