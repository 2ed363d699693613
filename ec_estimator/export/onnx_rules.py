def broken_rules(model):
    return []
