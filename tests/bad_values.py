"""Values that no field of a config takes, and the rules that say so."""
import numpy as np

COUNT = "an integer greater than 0"
SCOPES = "a tuple of non-empty scope names"
NAN = float("nan")
NO_INTEGER = [
    -1,
    1.0,
    1.5,
    NAN,
    "1",
    b"1",
    True,
    False,
    np.True_,
    None,
    [1],
    np.ones(1),
]
NO_SCOPES = [
    "dense",
    b"dense",
    "",
    None,
    1,
    ("",),
    ("/",),
    ("dense", ""),
    (1,),
    (None,),
]
