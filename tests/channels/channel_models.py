"""All small models for the tests of channel groups, in PREDICT mode."""
from tests.channels import conv_models, other_models, published_models, variable_models

# {model: number of groups that can be pruned}.
MODELS = {
    **published_models.MODELS,
    **conv_models.MODELS,
    **other_models.MODELS,
    **variable_models.MODELS,
}
