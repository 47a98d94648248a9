"""BatchNorm and vanishing gradients: the paper's study."""
