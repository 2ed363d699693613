"""include_scopes and exclude_scopes: which layers a config speaks of."""
import difflib

from ec_estimator.core.errors import ConfigError


def scope_reason(config, layer):
    """Why the config's scopes leave a layer out, or ""."""
    if config.include_scopes:
        if not any(_in_scope(layer, scope) for scope in config.include_scopes):
            return "is in none of include_scopes"
    for scope in config.exclude_scopes:
        if _in_scope(layer, scope):
            return f"is in exclude_scopes {scope!r}"
    return ""


def _in_scope(layer, scope):
    names = [layer.op] + ([layer.kernel.name] if layer.kernel else [])
    return any(name == scope or name.startswith(scope + "/") for name in names)


def check_scopes(config, layers):
    """Raises a ConfigError for a scope of the config that matches no layer."""
    for field in ("include_scopes", "exclude_scopes"):
        for scope in getattr(config, field):
            if not any(_in_scope(layer, scope) for layer in layers):
                known = _all_scopes(layers)
                nearest = difflib.get_close_matches(scope, known, 3, 0.3) or known[:3]
                raise ConfigError(
                    f"{type(config).__name__}.{field}: {scope!r} matches no layer; "
                    f"nearest: {', '.join(nearest)}"
                )


def _all_scopes(layers):
    scopes = []
    for layer in layers:
        for name in (layer.op, layer.kernel.name if layer.kernel else layer.op):
            pieces = name.split("/")
            scopes.extend("/".join(pieces[:n]) for n in range(1, len(pieces) + 1))
    return list(dict.fromkeys(scopes))
