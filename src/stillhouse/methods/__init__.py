"""The distillation methods, a module each; each reads like its paper."""
