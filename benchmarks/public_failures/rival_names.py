"""What living tools can say, and which kinds of cause each of it names.

A message names the kinds that its own text, or its authors' description of the check, gives as its cause. One
that only says that something is wrong, as "the loss became NaN" or "cannot overfit one batch", names none. A
message that lists several causes is given all of them, which is generous.
"""

from __future__ import annotations

Names = dict[str, tuple[str, ...]]

TORCHTEST2: Names = {
    "output_finite": ("precision", "inputs"),
    "output_varies": ("hidden", "shapes", "architecture"),
    "eval_determinism": ("mode",),
    "loss": ("loss",),
    "initial_loss": ("initialization", "inputs"),
    "optimizer_coverage": ("untrained",),
    "gradient_flow": ("untrained", "hidden", "architecture"),
    "gradient_magnitude": ("initialization", "inputs", "precision", "rate"),
    "params_change": ("untrained", "rate"),
    "frozen_params": ("untrained",),
    "input_dependency": ("architecture", "shapes"),
    "batch_independence": ("shapes", "leak"),
    "overfit_batch: did not decrease": ("rate", "output", "targets"),
    "overfit_batch: not finite": ("rate", "precision"),
    "overfit_batch: not far enough": ("rate", "architecture", "steps"),
}
TORCHMORTEM: Names = {
    "Dead units": ("hidden", "initialization", "rate"),
    "Activation saturation": ("hidden", "initialization", "rate"),
    "Vanishing gradients detected": ("hidden", "architecture"),
    "Exploding gradients detected": ("rate", "initialization"),
    "Gradient stalling": ("hidden", "initialization"),
    "High gradient noise (low SNR)": ("steps", "rate"),
    "Training divergence detected": ("rate",),
    "Loss plateau detected": ("rate",),
    "Rank collapse": ("architecture", "regularization", "collapse"),
    "Update ratio too low": ("rate", "hidden"),
    "Update ratio too high": ("rate",),
    "Weight norm explosion": ("regularization", "rate"),
    "Stagnant weight norms": ("rate", "hidden", "untrained"),
    "Inter-layer weight norm imbalance": ("initialization", "rate"),
}
GUARDTOWER: Names = {
    "train_mode": ("mode",),
    "loss detached": ("untrained", "loss"),
    "grad_connectivity: none": ("untrained", "architecture"),
    "grad_connectivity: zero": ("untrained", "hidden"),
    "optimizer_coverage": ("untrained",),
    "nonfinite": ("precision", "initialization"),
    "dead_relu": ("hidden", "initialization", "rate"),
    "grad_norms: large": ("rate",),
    "grad_norms: tiny": ("hidden", "architecture"),
    "input_dependency": ("architecture", "untrained"),
}
TORCH_AUDIT: Names = {
    "TA100": ("rate", "precision", "initialization"),
    "TA102": ("rate", "loop"),
    "TA104": ("untrained", "loop"),
    "TA105": ("hidden", "initialization", "rate"),
    "TA301": ("inputs",),
    "TA302": ("inputs",),
    "TA303": ("shapes",),
    "TA304": ("mode", "steps"),
    "TA305": ("inputs",),
    "TA401": ("regularization", "rate"),
    "TA402": ("regularization",),
    "TA403": ("regularization",),
    "TA405": ("initialization",),
    "TA500": ("untrained", "architecture"),
    "TA501": ("mode", "architecture"),
}
CHECKLIST: Names = {
    "loss at init": ("initialization",),
    "calibration at init": ("initialization",),
    "forward batch independence": ("shapes", "leak"),
    "forward causal property": ("leak", "architecture"),
    "non-zero gradients": ("untrained", "hidden"),
    "backward batch independence": ("shapes", "leak"),
    "input independent baseline": ("inputs", "hidden", "architecture"),
}
TRAINTOOLS: Names = {
    "has non-finite gradients": ("precision", "rate"),
    "gradient appears vanished": ("hidden", "initialization"),
    "gradient is very large": ("rate", "initialization"),
    "update/weight ratio is high": ("rate",),
    "update/weight ratio is tiny": ("rate",),
    "no gradients found": ("untrained", "loop"),
    "inputs: has non-finite values": ("inputs",),
    "targets: has non-finite values": ("targets",),
    "inputs: abs max": ("inputs",),
    "targets: abs max": ("targets",),
    "inputs: is nearly constant": ("inputs", "sampling"),
    "targets: is nearly constant": ("targets", "sampling"),
    "dominant class covers": ("targets", "sampling"),
    "labels outside": ("targets", "output"),
    "critical plasticity": ("hidden", "architecture"),
}
TRAINPULSE: Names = {
    "loss_spike": ("rate",),
    "gradient: explosion": ("rate", "initialization"),
    "gradient: vanishing": ("hidden", "architecture"),
    "learning_rate": ("loop", "rate"),
}
