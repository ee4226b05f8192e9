"""The measures of personalised segmentation."""

# metric of metrics.json -> array of per_triplet.npz
MEASURES = {"miou": "iou", "bf_acc": "found_alone", "af_acc": "found_together"}
