"""The claims of both papers that a run can check, and of two on transformers of joint attention.

Standard library only: the Snakemake rules import this module to know the inputs. A measurement is a
cell of a table, so that the published difference and ours refer to the same cells. Figure B.8 prints
no numbers; its points are named by their masks (``voc_figure_b8/<variant>/<refinement>``), on the data
set and split of the figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from attnseg.results import TABLES

RUNS_NEEDED = 3  # trainings with different seeds, for a claim about a trained segmentor
FIGURE = "voc_figure_b8/"
BACKBONES = "backbones/"  # masks of the data set and split of that table
SIMILARITY = "voc_figure_d9"


@dataclass(frozen=True)
class Measurement:
    """A metric of an evaluation; `cell`: its place in a table, (target, method, metric label)."""

    label: str
    evaluation: str
    metric: str = "miou"
    cell: tuple[str, str, str] | None = None

    @property
    def trained(self) -> bool:
        """True if it measures a trained segmentor."""
        return self.evaluation.startswith("segmentors/")


@dataclass(frozen=True)
class Claim:
    """A claim that `ours` exceeds each of `others` or, with another `test`, that

    spread        the values of `ours` differ by less than `limit`, which we chose
    correlation   similarity and mean IoU of images correlate negatively (Figure D.9)
    """

    id: str
    paper: str
    where: str
    claim: str
    ours: tuple[Measurement, ...]
    others: tuple[Measurement, ...] = ()
    test: str = "greater"
    limit: float = 0.0
    published: float | None = None  # the paper's difference, if it is not in a table

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return self.ours + self.others

    @property
    def below(self) -> bool:
        """True if the claim is that a value is below `limit` rather than above it."""
        return self.test != "greater"


def cell(target: str, method: str, metric: str) -> Measurement:
    """The measurement in a cell of a table."""
    source = TABLES[target].ours[method, metric]
    (evaluation,) = source.evaluations
    label = method if metric in ("mIoU", "mean") else f"{method}, {metric}"
    return Measurement(label, evaluation, source.metric, (target, method, metric))


def figure(masks: str) -> Measurement:
    """The mean IoU of a point of Figure B.8, `<variant>/<refinement>`."""
    return Measurement(masks, f"{FIGURE}{masks}")


def _greater(
    id: str,
    where: str,
    claim: str,
    ours: Measurement,
    *others: Measurement,
    published: float | None = None,
) -> Claim:
    paper = "attn2mask" if (ours.cell or ("",))[0].startswith("attn2mask") else "Text2Mask"
    return Claim(id, paper, where, claim, (ours,), others, published=published)


def _text2mask() -> list[Claim]:
    def t1(method: str, metric: str = "dCRF") -> Measurement:
        return cell("voc_table1", method, metric)

    def t5(method: str, metric: str = "Initial") -> Measurement:
        return cell("voc_table5", method, metric)

    def t6(method: str, metric: str = "mIoU") -> Measurement:
        return cell("voc_table6", method, metric)

    def spread(id: str, where: str, claim: str, ours: Sequence[Measurement], limit: float) -> Claim:
        return Claim(id, "Text2Mask", where, claim, tuple(ours), test="spread", limit=limit)

    default = figure("one_noise/crf")
    # fmt: off
    return [
        _greater("selfcross_beats_cross", "Table 5, Initial", "SelfCross beats Cross",
            t5("SelfCross"), t5("Cross")),
        _greater("selfcross_beats_cross_crf", "Table 5, dCRF",
            "SelfCross beats Cross after the dense CRF, too",
            t5("SelfCross", "dCRF"), t5("Cross", "dCRF")),
        _greater("selfcross_beats_cbp", "Table 5, Initial",
            "Self-attention works better as an affinity than for clustering (CBP)",
            t5("SelfCross"), t5("CBP")),
        _greater("selfcross_beats_cbp_crf", "Table 5, dCRF",
            "Self-attention works better as an affinity than for clustering after the CRF, too",
            t5("SelfCross", "dCRF"), t5("CBP", "dCRF")),
        _greater("sum_brings_nothing", "Table 5, Initial",
            "Adding Cross to SelfCross does not help",
            t5("SelfCross"), t5("Cross+SelfCross")),
        _greater("sum_brings_nothing_crf", "Table 5, dCRF",
            "Adding Cross to SelfCross does not help after the dense CRF, either",
            t5("SelfCross", "dCRF"), t5("Cross+SelfCross", "dCRF")),
        _greater("crf_helps", "Table 1, 10 times", "The dense CRF improves the masks",
            t1("Ours (10 times)"), t1("Ours (10 times)", "Initial")),
        _greater("ten_noises_beat_one", "Table 1, dCRF", "Ten noises beat one",
            t1("Ours (10 times)"), t1("Ours (1 time)")),
        _greater("composed_beats_separate", "Table 6", "One composed sentence beats separate ones",
            t6("Comp."), t6("none")),
        _greater("composed_is_faster", "Section 5.2, Prompt",
            "The composed sentence is faster than separate ones (labels per second)",
            t6("Comp.", "labels/s"), t6("none", "labels/s"), published=1.6 - 1.0),
        _greater("synonyms_help", "Table 6", "Synonyms help",
            t6("Comp.+Syn."), t6("Comp.")),
        _greater("synonyms_help_person", "Table 6, person", "Synonyms help the class person",
            t6("Comp.+Syn.", "person"), t6("Comp.", "person")),
        _greater("background_words_help_train", "Table 6, train",
            "Background words help the class train",
            t6("Comp.+Syn.+BG.", "train"), t6("Comp.+Syn.", "train")),
        _greater("background_words_help_boat", "Table 6, boat",
            "Background words help the class boat",
            t6("Comp.+Syn.+BG.", "boat"), t6("Comp.+Syn.", "boat")),
        _greater("background_words_help", "Table 6", "Background words help on average",
            t6("Comp.+Syn.+BG."), t6("Comp.+Syn.")),
        _greater("full_query_beats_plain", "Table 6", "The full query beats the plain one",
            t6("Comp.+Syn.+BG."), t6("none")),
        spread("seeds_agree", "Table B.8", "Five seeds give nearly the same mIoU",
            [cell("voc_table_b8", "Ours", str(seed)) for seed in range(40, 45)], 1.0),
        spread("timestep_matters_little", "Figure B.8", "The time step has little effect",
            [default, *(figure(f"t_{t}/crf") for t in (50, 100, 200, 300, 500))], 2.0),
        _greater("coarse_cross_blocks", "Figure B.8",
            "Cross-attention is better taken from the coarse inner blocks",
            default, figure("cross_fine/crf")),
        _greater("late_self_block", "Figure B.8",
            "Self-attention is better taken from a late block",
            default, figure("self_down/crf")),
        _greater("power_beats_constant", "Appendix B.1",
            "A background score that falls as class scores rise beats a constant one",
            default, *(figure(f"one_noise/constant_{tenths}") for tenths in (3, 4, 5))),
        _greater("square_is_best", "Figure B.8", "2 is the best exponent of the background score",
            default, *(figure(f"one_noise/power_{power}") for power in (1, 3, 4))),
        Claim("similar_classes_are_worse", "Text2Mask", "Figure D.9",
            "The more similar the classes in an image, the worse its masks",
            (Measurement("r of similarity and mIoU of images", SIMILARITY, "r"),),
            test="correlation", published=-0.73),
        _greater("coco_weights_help", "Table 3, val", "Pre-training DeepLab on COCO helps",
            cell("voc_table3", "Ours R101 V2‡", "Val"),
            cell("voc_table3", "Ours R101 V2", "Val")),
    ]
    # fmt: on


def _mug19() -> list[Claim]:
    def t7(method: str, metric: str) -> Measurement:
        return cell("mug19_table7", method, metric)

    # fmt: off
    return [
        _greater("query_beats_subject", "Table 7, All af_acc",
            "Subject and words beat the subject alone",
            t7("Ours", "All af_acc"), t7("Subject Only", "All af_acc")),
        _greater("query_beats_context", "Table 7, All af_acc",
            "Subject and words beat the words alone",
            t7("Ours", "All af_acc"), t7("Context Only", "All af_acc")),
        _greater("query_beats_subject_on_visual_distractors", "Table 7, Visual Distractor af_acc",
            "Our query beats the subject alone on visual distractors",
            t7("Ours", "Visual Distractor af_acc"),
            t7("Subject Only", "Visual Distractor af_acc")),
        _greater("query_beats_context_on_semantic_distractors", "Table 7, Semantic Distractor af_acc",
            "Our query beats the words alone on semantic distractors",
            t7("Ours", "Semantic Distractor af_acc"),
            t7("Context Only", "Semantic Distractor af_acc")),
        _greater("subject_excludes_semantic_distractors", "Table 7, Semantic Distractor af_acc",
            "The subject is what excludes semantic distractors",
            t7("Subject Only", "Semantic Distractor af_acc"),
            t7("Context Only", "Semantic Distractor af_acc")),
        _greater("words_exclude_visual_distractors", "Table 7, Visual Distractor af_acc",
            "The words are what exclude visual distractors",
            t7("Context Only", "Visual Distractor af_acc"),
            t7("Subject Only", "Visual Distractor af_acc")),
        _greater("query_beats_arithmetic", "Table 7, All af_acc",
            "The query beats an average of image and text embeddings",
            t7("Ours", "All af_acc"), t7("Arithmetic", "All af_acc")),
        _greater("assignment_helps", "Table 7, All",
            "Assigning all instances of a scene jointly is more accurate than assigning each alone",
            t7("Ours", "All af_acc"), t7("Ours", "All bf_acc")),
        _greater("query_beats_subject_on_variants", "Table B.10, af_acc",
            "Subject and words beat the subject alone where a variant of the series is known",
            cell("mug19_table_b10", "Ours", "Variant af_acc"),
            cell("mug19_table_b10", "Subject Only", "Variant af_acc")),
    ]
    # fmt: on


def _attn2mask() -> list[Claim]:
    def t1(method: str, label: str = "mean") -> Measurement:
        return cell("attn2mask_voc_table1", method, label)

    def t2(method: str) -> Measurement:
        return cell("attn2mask_voc_table2", method, "mIoU")

    def t3(method: str, images: str) -> Measurement:
        return cell("attn2mask_imagenet_s_table3", method, images)

    def t4(method: str, metric: str) -> Measurement:
        return cell("attn2mask_cityscapes_table4", method, metric)

    def t5(method: str) -> Measurement:
        return cell("attn2mask_voc_table5", method, "mIoU")

    def t6(method: str) -> Measurement:
        return cell("attn2mask_voc_table6", method, "mIoU")

    lora, plain = "Attn2mask-LoRA (ours) (adapt.)", "Attn2mask (ours)"
    # fmt: off
    return [
        _greater("beco_beats_plain", "Table 2, 168,679 images", "BECO beats plain training",
            t2("Attn2mask+BECO (168,679)"), t2("Attn2mask (168,679)")),
        _greater("beco_beats_plain_10000", "Table 2, 10,000 images",
            "BECO beats plain training with fewer images",
            t2("Attn2mask+BECO (10,000)"), t2("Attn2mask (10,000)")),
        _greater("more_images_beat_fewer", "Table 2", "168,679 generated images beat 2,000",
            t2("Attn2mask (168,679)"), t2("Attn2mask (2,000)")),
        _greater("more_images_beat_10000", "Table 2", "168,679 generated images beat 10,000",
            t2("Attn2mask (168,679)"), t2("Attn2mask (10,000)")),
        _greater("real_supervision_is_ahead", "Table 1",
            "Training on real images with ground truth beats training on generated ones",
            t1("Real-supervised"), t1("Attn2mask (ours)")),
        _greater("person_suffers", "Table 1, person",
            "The class person is worse when training on generated images",
            t1("Real-supervised", "person"), t1("Attn2mask (ours)", "person")),
        _greater("crf_beats_thresholds", "Table 5", "The dense CRF beats thresholds",
            t5("dCRF β = 0.2"),
            t5("Thresholding θ = 64"), t5("Thresholding θ = 128"), t5("Otsu")),
        _greater("beta_helps", "Table 5", "β = 0.2 beats β = 0",
            t5("dCRF β = 0.2"), t5("dCRF β = 0")),
        _greater("generated_beat_inverted_training_images", "Table 6",
            "Training on generated images beats training on inverted real ones",
            t6("Attn2mask"), t6("NTI on the train set and retraining")),
        _greater("generated_beat_inverted_val_images", "Table 6",
            "Training on generated images beats inverting the val images",
            t6("Attn2mask"), t6("NTI on the val set")),
        _greater("more_images_beat_fewer_imagenet_s", "Table 3",
            "100k generated images beat 10k on ImageNet-S",
            t3("Attn2mask (ours)", "100k"), t3("Attn2mask (ours)", "10k")),
        _greater("lora_helps", "Table 4, mIoU", "LoRA helps in the distant domain",
            t4(lora, "mIoU"), t4(plain, "mIoU")),
        _greater("lora_helps_accuracy", "Table 4, Acc.",
            "LoRA helps the accuracy in the distant domain",
            t4(lora, "Acc."), t4(plain, "Acc.")),
    ]
    # fmt: on


def _joint() -> list[Claim]:
    """Of the readings of a joint transformer: variants that begin with `joint`."""

    def masks(variant: str, refinement: str) -> Measurement:
        return Measurement(f"{variant}/{refinement}", f"{BACKBONES}{variant}/{refinement}")

    def better(
        id: str, paper: str, where: str, claim: str, ours: Measurement, other: Measurement
    ) -> Claim:
        return Claim(id, paper, where, claim, (ours,), (other,))

    cross, output = masks("joint", "cross_none"), masks("joint_output", "cross_none")
    # fmt: off
    return [
        better("one_block_beats_all", "Seg4Diff", "Section 3.3",
            "One middle joint block is better than the mean of all",
            cross, masks("joint_all", "cross_none")),
        better("output_beats_attention", "ConceptAttention", "Section 5",
            "The space of attention's outputs is better than attention itself", output, cross),
        better("propagation_helps_attention", "Text2Mask", "Table 5, of joint attention",
            "Propagation by self-attention helps joint attention", masks("joint", "none"), cross),
        better("propagation_helps_output", "Text2Mask", "Table 5, of outputs",
            "Propagation by self-attention helps what is read of outputs",
            masks("joint_output", "none"), output),
        better("all_tokens_beat_the_first", "ours", "against ConceptAttention's first token",
            "All tokens of a class are better than its first",
            output, masks("joint_output_first", "cross_none")),
    ]
    # fmt: on


CLAIMS = (*_text2mask(), *_mug19(), *_attn2mask(), *_joint())


def evaluations_needed() -> list[str]:
    """Evaluations behind the claims, without repeats."""
    return list(dict.fromkeys(m.evaluation for claim in CLAIMS for m in claim.measurements))
