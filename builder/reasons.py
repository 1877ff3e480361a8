"""Why a pair is kept or rejected: one fixed list of codes, counted per shard and explained on the card."""

from __future__ import annotations

KEPT = "kept"

REASONS: dict[str, str] = {
    KEPT: "Every rule of the recipe holds.",
    "unreadable": "The subject's picture could not be decoded when its turn came.",
    "out_of_domain": "The models do not know such a picture: the reference is too far from what they were trained on.",
    "no_subject": "No subject of the named class was found in the reference.",
    "reference_unsound": "The subject's mask in the reference is too large, cut by the border, or in pieces.",
    "mask_unsound": "The subject's mask in the target is too small or too large.",
    "view_mismatch": "The new view of the reference shows another subject.",
    "identity_lost": "The target does not show the reference's subject.",
    "copy_paste": "The target repeats the reference: too similar to teach anything.",
    "prompt_missed": "The target does not show what the prompt asks for.",
    "stage_failed": "A stage raised an error for this pair; the receipt of the shard has the message.",
    "score_invalid": "A score is not a number in [-1, 1]: a bug of a stage, never a property of the pair.",
}

# Another noise seed can mend these. The rest depend on the reference alone, or are bugs, and are not tried again.
RETRIED = frozenset({"mask_unsound", "view_mismatch", "identity_lost", "copy_paste", "prompt_missed"})
