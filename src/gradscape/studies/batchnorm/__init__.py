"""The paper's study of BatchNorm and vanishing gradients."""
