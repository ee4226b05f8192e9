"""Segmentors trained on masks: DeepLab through mmengine's Runner and mmseg's parts."""

import warnings

# mmcv-lite says so at every start; no part used here needs compiled operators
warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``")
