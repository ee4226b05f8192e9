"""Segmentors trained on masks: DeepLab and BECO, with mmengine and mmseg."""

import warnings

# mmcv-lite warns at every start; nothing used here needs compiled operators
warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``")
# the loss over all pixels is mmseg's default, and a choice here
warnings.filterwarnings("ignore", "Default ``avg_non_ignore`` is False")
