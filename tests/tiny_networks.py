"""Networks small enough to be made in a test."""

from diffusers import UNet2DConditionModel


def text_unet(size: int, channels: int, width: int, *, attention_first: bool = False) -> UNet2DConditionModel:
    """A random text-conditional UNet of two levels, with attention to the text on one of them."""
    down, up = ["DownBlock2D", "CrossAttnDownBlock2D"], ["CrossAttnUpBlock2D", "UpBlock2D"]
    if attention_first:
        down, up = down[::-1], up[::-1]
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        cross_attention_dim=width,
        attention_head_dim=4,
    )
