"""Config to flags to config is the identity; wrong flags are errors."""
import dataclasses
import re

import pytest
from absl import flags as absl_flags
from hypothesis import given
from hypothesis import strategies as st

from ec_estimator import flags
from ec_estimator.config import PrunerConfig, QuantizerConfig, SparsifierConfig
from ec_estimator.core.errors import ConfigError
from ec_estimator.pruning.pruner import Pruner
from ec_estimator.quantization.quantizer import LSQQuantizer
from ec_estimator.sparsity.sparsifier import Sparsifier


def parse(*arguments):
    """The flag values of a command line."""
    values = absl_flags.FlagValues()
    flags.define(values)
    assert values(["program", *arguments]) == ["program"]
    return values


def compressors(*arguments):
    return flags.compressor(parse(*arguments))


def config(*arguments):
    (compressor,) = compressors("--compressor=sparsifier", *arguments)
    assert type(compressor) is Sparsifier
    return compressor.config


NAMES = st.builds(
    "{}{}".format, st.sampled_from("aZ0."), st.text("aZ0._-/", max_size=5)
)
SCOPES = st.lists(NAMES, max_size=2)
COUNTS = st.integers(1, 2**40)
BITS = st.integers(1, 8)
SPARSIFIERS = st.builds(
    SparsifierConfig,
    target_sparse_ratio=st.floats(0, 1),
    sparse_block_shape=st.tuples(COUNTS, COUNTS),
    step_interval=COUNTS,
    num_trials=COUNTS,
    include_scopes=SCOPES,
    exclude_scopes=SCOPES,
    sort_range=st.sampled_from(["local", "global"]),
    ramp=st.sampled_from(["cubic", "linear"]),
    start_step=st.integers(0, 2**40),
)
QUANTIZERS = st.builds(
    QuantizerConfig,
    bits=BITS,
    wbits=BITS,
    signed=st.sampled_from([True, False, "auto"]),
    pretrained_model=st.none() | NAMES,
    step_interval=COUNTS,
    num_trials=COUNTS,
    include_scopes=SCOPES,
    exclude_scopes=SCOPES,
    fp32_layers=SCOPES,
    post_quant=st.booleans(),
    int8_winograd=st.booleans(),
    first_last_bits=st.none() | BITS,
)
CONFIGS = st.builds(Sparsifier, SPARSIFIERS) | st.builds(LSQQuantizer, QUANTIZERS)


@given(CONFIGS)
def test_config_to_flags_to_config_is_the_identity(original):
    (compressor,) = compressors(*flags.to_flags([original]))
    assert type(compressor) is type(original)
    assert compressor.config == original.config


def test_the_flags_of_a_config_are_a_flag_file(tmp_path):
    original = SparsifierConfig(0.1, (1, 16), 7, 3, ("a", "b/c"), ("d",), "global")
    recipe = tmp_path / "recipe.flags"
    recipe.write_text("\n".join(flags.to_flags([Sparsifier(original)])))
    (compressor,) = compressors(f"--flagfile={recipe}")
    assert compressor.config == original


def test_a_flag_after_the_flag_file_wins(tmp_path):
    recipe = tmp_path / "recipe.flags"
    recipe.write_text(
        "# Comments and empty lines are fine.\n\n"
        "--compressor=sparsifier\n--sparsifier_num_trials=3\n--train_steps=7\n"
    )
    values = parse(f"--flagfile={recipe}", "--sparsifier_num_trials=4")
    (compressor,) = flags.compressor(values)
    assert compressor.config == SparsifierConfig(num_trials=4)
    assert values.train_steps == 7


@pytest.mark.parametrize(
    "prefix,compressor",
    [
        ("pruner", Pruner(PrunerConfig())),
        ("sparsifier", Sparsifier(SparsifierConfig())),
        ("quantizer", LSQQuantizer(QuantizerConfig())),
    ],
)
def test_without_flags_a_config_has_its_defaults(prefix, compressor):
    (built,) = compressors(f"--compressor={prefix}")
    assert type(built) is type(compressor)
    assert built.config == compressor.config


@pytest.mark.parametrize(
    "prefix,config",
    [
        ("pruner", PrunerConfig),
        ("sparsifier", SparsifierConfig),
        ("quantizer", QuantizerConfig),
    ],
)
def test_every_field_is_a_flag_with_its_documentation(prefix, config):
    values = parse()
    for field in dataclasses.fields(config):
        flag = values[f"{prefix}_{field.name}"]
        assert field.metadata["doc"] in flag.help


def test_flags_become_fields_of_the_quantizer():
    (compressor,) = compressors(
        "--compressor=quantizer",
        "--quantizer_bits=4",
        "--quantizer_wbits=2",
        "--quantizer_signed=auto",
        "--quantizer_pretrained_model=runs/dense",
        "--quantizer_step_interval=20",
        "--quantizer_num_trials=3",
        "--quantizer_include_scopes=a,b/c",
        "--quantizer_exclude_scopes=b/c/d",
        "--quantizer_fp32_layers=a/MatMul,b/Conv2D",
        "--quantizer_post_quant",
        "--quantizer_int8_winograd=true",
        "--quantizer_first_last_bits=8",
    )
    assert compressor.config == QuantizerConfig(
        bits=4,
        wbits=2,
        signed="auto",
        pretrained_model="runs/dense",
        step_interval=20,
        num_trials=3,
        include_scopes=("a", "b/c"),
        exclude_scopes=("b/c/d",),
        fp32_layers=("a/MatMul", "b/Conv2D"),
        post_quant=True,
        int8_winograd=True,
        first_last_bits=8,
    )


@pytest.mark.parametrize("text,signed", [("true", True), ("False", False)])
def test_the_sign_is_a_flag_of_three_words(text, signed):
    (compressor,) = compressors("--compressor=quantizer", f"--quantizer_signed={text}")
    assert compressor.config.signed is signed
    with pytest.raises(absl_flags.IllegalFlagValueError, match="quantizer_signed=yes"):
        parse("--quantizer_signed=yes")


@pytest.mark.parametrize("name", ["bits", "wbits", "first_last_bits"])
@pytest.mark.parametrize("value", ["0", "9"])
def test_bits_out_of_range_are_the_configs_error(name, value):
    message = f"QuantizerConfig.{name}: must be an integer from 1 to 8.*, got {value}$"
    with pytest.raises(ConfigError, match=message):
        compressors("--compressor=quantizer", f"--quantizer_{name}={value}")
    with pytest.raises(absl_flags.IllegalFlagValueError, match=f"quantizer_{name}=1.5"):
        parse(f"--quantizer_{name}=1.5")


def test_flags_become_fields():
    assert config(
        "--sparsifier_target_sparse_ratio=0.75",
        "--sparsifier_sparse_block_shape=1,16",
        "--sparsifier_step_interval=20",
        "--sparsifier_num_trials=3",
        "--sparsifier_include_scopes=a,b/c",
        "--sparsifier_exclude_scopes=b/c/d",
        "--sparsifier_sort_range=global",
        "--sparsifier_ramp=linear",
        "--sparsifier_start_step=5",
    ) == SparsifierConfig(
        target_sparse_ratio=0.75,
        sparse_block_shape=(1, 16),
        step_interval=20,
        num_trials=3,
        include_scopes=("a", "b/c"),
        exclude_scopes=("b/c/d",),
        sort_range="global",
        ramp="linear",
        start_step=5,
    )


def test_no_compressor_is_built_unless_it_is_named():
    assert compressors("--sparsifier_num_trials=3") == []


def test_an_unknown_compressor_is_an_error_that_names_those_there_are():
    message = (
        "^--compressor: 'sparsify' is unknown; there is pruner, sparsifier, quantizer$"
    )
    with pytest.raises(ConfigError, match=message):
        compressors("--compressor=sparsify")


def test_an_unknown_flag_is_an_error_that_names_the_nearest():
    with pytest.raises(
        absl_flags.UnrecognizedFlagError,
        match="Unknown command line flag 'sparsifier_num_trial'.*sparsifier_num_trials",
    ):
        parse("--sparsifier_num_trial=3")


@pytest.mark.parametrize(
    "name,value",
    [
        ("target_sparse_ratio", "most"),
        ("step_interval", "1.5"),
        ("num_trials", "ten"),
        ("start_step", ""),
        ("sort_range", "all"),
        ("ramp", "quadratic"),
    ],
)
def test_a_value_of_another_type_is_an_error_that_names_the_flag(name, value):
    message = re.escape(f"flag --sparsifier_{name}={value}: ")
    with pytest.raises(absl_flags.IllegalFlagValueError, match=message):
        parse(f"--sparsifier_{name}={value}")


@pytest.mark.parametrize(
    "name,value,got",
    [
        ("target_sparse_ratio", "1.5", "1.5"),
        ("target_sparse_ratio", "nan", "nan"),
        ("sparse_block_shape", "0,16", "[0, 16]"),
        ("sparse_block_shape", "16", "[16]"),
        ("sparse_block_shape", "1,2,3", "[1, 2, 3]"),
        ("sparse_block_shape", "--1,2", "['--1', '2']"),
        ("sparse_block_shape", "1,x", "['1', 'x']"),
        ("sparse_block_shape", "1.0,4", "['1.0', '4']"),
        ("sparse_block_shape", "²,4", "['²', '4']"),
        ("sparse_block_shape", "", "[]"),
        ("step_interval", "0", "0"),
        ("num_trials", "-1", "-1"),
        ("start_step", "-1", "-1"),
        ("include_scopes", "a,,b", "['a', '', 'b']"),
        ("exclude_scopes", "/", "['/']"),
    ],
)
def test_a_value_out_of_range_is_the_configs_error(name, value, got):
    pattern = rf"^SparsifierConfig\.{name}: must be .*, got {re.escape(got)}$"
    with pytest.raises(ConfigError, match=pattern):
        config(f"--sparsifier_{name}={value}")


def test_flags_of_training_and_export():
    values = parse(
        "--model_dir=runs/1",
        "--warm_start_from=dense",
        "--train_steps=100",
        "--eval_steps=5",
        "--save_checkpoints_steps=10",
        "--export=saved_model",
        "--export=clean_checkpoint",
    )
    assert (values.model_dir, values.warm_start_from) == ("runs/1", "dense")
    assert (values.train_steps, values.eval_steps) == (100, 5)
    assert values.save_checkpoints_steps == 10
    assert values.export == ["saved_model", "clean_checkpoint"]


def test_an_unknown_export_is_an_error():
    with pytest.raises(absl_flags.IllegalFlagValueError, match="--export=onnx"):
        parse("--export=onnx")
