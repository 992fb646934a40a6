"""Fields of configuration files: which of them were read, and the only table of those that change nothing here.

A field that is neither read nor in the table may matter, so a warning names it.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from camjax.checkpoints.damage import some_names

WITHOUT_EFFECT: Mapping[str, Mapping[str, frozenset[str]]] = {
    "config.json": {
        "only training reads it": frozenset(
            {
                *("attention_probs_dropout_prob", "classifier_dropout", "drop_path_rate", "dropout", "encoder_stride"),
                *("finetuning_task", "gradient_checkpointing", "hidden_dropout_prob", "initializer_factor"),
                *("initializer_range", "layerscale_value", "mask_ratio", "task_specific_params", "use_mask_token"),
            }
        ),
        "only other outputs than the logits read it": frozenset(
            {
                *("_out_features", "_out_indices", "apply_layernorm", "is_decoder", "is_encoder_decoder"),
                *("keys_to_ignore_at_inference", "out_features", "out_indices", "output_attentions"),
                *("output_hidden_states", "pooler_act", "pooler_output_size", "reshape_hidden_states", "return_dict"),
                *("stage_names", "tie_encoder_decoder", "tie_last_hidden_states", "tie_word_embeddings", "torchscript"),
                *("use_cache", "use_return_dict"),
            }
        ),
        "it says how to compute the same numbers": frozenset(
            {
                *("_attn_implementation", "_attn_implementation_autoset", "_experts_implementation"),
                *("attn_implementation", "chunk_size_feed_forward", "use_bfloat16"),
            }
        ),
        "weights of any dtype become float32": frozenset({"dtype", "torch_dtype"}),
        "transformers' pipeline reads `problem_type` and the number of labels first": frozenset({"function_to_apply"}),
        "`preprocessor_config.json` says it where it is not the model's usual": frozenset({"image_processor_type"}),
        "`id2label` says the same": frozenset({"_num_labels", "label2id"}),
        "it follows from the other fields, or no version of transformers computes with it": frozenset(
            {"hidden_size", "num_layers", "path_norm"}
        ),
        "it describes the repository": frozenset(
            {
                *("_commit_hash", "_name_or_path", "architectures", "license", "model_name", "name_or_path"),
                *("transformers_version",),
            }
        ),
    },
    "preprocessor_config.json": {
        "images are red, green and blue already": frozenset({"do_convert_rgb"}),
        "it is about arrays in Python, not about their values": frozenset(
            {
                *("_valid_kwargs_names", "_valid_processor_keys", "data_format", "device", "disable_grouping"),
                *("image_seq_length", "input_data_format", "model_input_names", "return_tensors", "use_fast"),
            }
        ),
        "it is about maps of labels": frozenset({"do_reduce_labels", "reduce_labels"}),
        "only the processors of other types read it": frozenset({"crop_pct", "num_channels", "patch_size"}),
        "it describes the file": frozenset(
            {
                *("_processor_class", "feature_extractor_type", "image_processor_type", "processor_class"),
                *("_commit_hash", "name_or_path", "transformers_version"),
            }
        ),
    },
    "timm's config.json": {
        "timm writes it for information": frozenset({"num_features", "tag"}),
        "it says how to fetch weights or to adapt them": frozenset(
            {
                *("classifier", "custom_load", "file", "first_conv", "hf_hub_filename", "hf_hub_id", "source"),
                *("state_dict", "url"),
            }
        ),
        "timm evaluates at `input_size` and `crop_pct` unless it is told otherwise": frozenset(
            {"min_input_size", "pool_size", "test_crop_pct", "test_input_size", "test_pool_size"}
        ),
        "it describes the repository": frozenset(
            {
                *("description", "license", "license_link", "license_name", "notes", "origin_url", "paper_ids"),
                *("paper_name",),
            }
        ),
    },
}
"""For each kind of file, the reason why fields change neither the input nor the meaning of the outputs, and which."""


class Fields(Mapping[str, Any]):
    """A JSON object that knows which of its fields were read.

    Args:
        values: Untrusted object, as JSON gives it.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        self._read.add(name)
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def unknown(self, kind: str) -> list[str]:
        """Returns the names of the fields that were not read and that may matter.

        Args:
            kind: Key of `WITHOUT_EFFECT`.
        """
        inert = frozenset().union(*WITHOUT_EFFECT[kind].values())
        return [name for name in self._values if name not in self._read and name not in inert]


def warn_of_unknown(fields: Fields, kind: str) -> None:
    """Warns of fields that were not read and that may matter, in one line.

    Args:
        fields: Object that has been read.
        kind: Key of `WITHOUT_EFFECT`.
    """
    if unknown := fields.unknown(kind):
        warnings.warn(
            f"{kind} has {some_names(unknown)}, which camjax does not know and did not read; where that changes what "
            "the network sees or computes, the result differs",
            UserWarning,
            stacklevel=3,
        )
