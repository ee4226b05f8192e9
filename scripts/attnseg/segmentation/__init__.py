"""Segmentors trained on masks: DeepLab and BECO, with mmengine and mmseg."""

import warnings

# mmcv-lite warns at every start; nothing used here needs compiled operators
warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``")
