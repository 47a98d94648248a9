"""Small, randomly initialized networks of today's libraries, each with a task that it learns.

A family is what an architecture descends from; halves are split by it. Whether a training is healthy is not
said here: `healthy.py` runs it and looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import healthy_tasks as tasks
import torch
from healthy_added import added
from healthy_nets import Model, mlp, written_by_hand
from healthy_tasks import CLASSES, WORDS
from torch import Tensor, nn
from torch.nn import functional as F

PATCHES = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "num_heads": 3}
TIMM = (
    ("vit_tiny_patch16_224", "vit", PATCHES | {"depth": 4}),
    ("deit3_small_patch16_224", "vit", PATCHES | {"depth": 4}),
    ("beit_base_patch16_224", "vit", PATCHES | {"depth": 3}),
    ("cait_xxs24_224", "vit", PATCHES | {"depth": 3}),
    ("swin_tiny_patch4_window7_224", "swin",
     {"img_size": 32, "window_size": 4, "embed_dim": 24, "depths": (1, 1, 2), "num_heads": (2, 2, 4)}),
    ("convnext_atto", "convnext", {"depths": (1, 1, 2, 1), "dims": (16, 32, 48, 64)}),
    ("convnextv2_atto", "convnext", {"depths": (1, 1, 2, 1), "dims": (16, 32, 48, 64)}),
    ("resnet10t", "resnet", {"channels": (16, 32, 64, 128), "stem_width": 16}),
    ("resnet18", "resnet", {"channels": (16, 32, 64, 128)}),
    ("regnetx_002", "resnet", {}),
    ("nf_regnet_b0", "nf", {}),
    ("mobilenetv3_small_050", "mobilenet", {}),
    ("efficientnet_lite0", "efficientnet", {}),
    ("ghostnet_050", "ghostnet", {}),
)  # fmt: skip


def of_timm() -> Iterator[Model]:
    import timm

    def maker(name: str, options: dict[str, Any]) -> Callable[[], nn.Module]:
        return lambda: timm.create_model(name, num_classes=CLASSES, **options)

    for name, family, options in TIMM:
        size = int(options.get("img_size", 32))
        yield Model(f"timm {name}", family, maker(name, options), tasks.pictures(size))


def smaller_of_timm() -> Iterator[Model]:
    """Those whose names fix the sizes: built of the classes, as the names build them."""
    from timm.models import densenet, metaformer, mlp_mixer

    mixer = partial(mlp_mixer.MlpMixer, CLASSES, img_size=64, embed_dim=64, num_blocks=3)
    gated = {"mlp_ratio": 6, "block_layer": mlp_mixer.SpatialGatingBlock, "mlp_layer": mlp_mixer.GatedMlp}
    affine = {"mlp_ratio": 4, "block_layer": mlp_mixer.ResBlock, "norm_layer": mlp_mixer.Affine}
    pool = {
        "downsample_norm": None,
        "mlp_act": nn.GELU,
        "mlp_bias": True,
        "norm_layers": metaformer.GroupNorm1,
        "layer_scale_init_values": 1e-5,
        "res_scale_init_values": None,
        "use_mlp_head": False,
    }
    yield Model("timm mixer_s16_224", "mixer", mixer, tasks.pictures(64))
    yield Model("timm gmlp_s16_224", "mixer", partial(mixer, **gated), tasks.pictures(64))
    yield Model("timm resmlp_12_224", "mixer", partial(mixer, **affine), tasks.pictures(64))
    pooling = partial(metaformer.MetaFormer, num_classes=CLASSES, depths=(1, 1, 1, 1), dims=(16, 32, 48, 64))
    yield Model("timm poolformer_s12", "poolformer", partial(pooling, **pool), tasks.pictures())
    dense = partial(densenet.DenseNet, growth_rate=8, block_config=(2, 2, 2), num_classes=CLASSES)
    yield Model("timm densenet121", "densenet", dense, tasks.pictures())


class Pooled(nn.Module):
    """A sentence encoder: the mean of the last states; a pooler that it may have stays unused."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner, self.head = inner, nn.Linear(width, CLASSES)

    def forward(self, input_ids: Tensor) -> Tensor:
        out: Tensor = self.head(self.inner(input_ids=input_ids).last_hidden_state.mean(1))
        return out


SMALL = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ENCODER = SMALL | {
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "num_labels": CLASSES,
    "pad_token_id": 0,
}
DECODER = SMALL | {
    "intermediate_size": 64,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "max_position_embeddings": 32,
}


T5 = {
    "vocab_size": WORDS, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2,
    "decoder_start_token_id": 0,
}  # fmt: skip
BART = {
    "vocab_size": WORDS, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 64,
    "max_position_embeddings": 32,
}  # fmt: skip
VIT = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96,
    "image_size": 32, "patch_size": 8, "num_labels": CLASSES,
}  # fmt: skip
SEGFORMER = {
    "depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 32, "num_labels": CLASSES,
}  # fmt: skip


def of_transformers() -> Iterator[Model]:
    import transformers

    def made(kind: str, config: str, **options: Any) -> Callable[[], nn.Module]:
        settings = getattr(transformers, f"{config}Config")
        return lambda: getattr(transformers, kind)(settings(**options))

    def encoder(name: str, config: str, purpose: str = "Sequence", **options: Any) -> Model:
        make = made(f"{config}For{purpose}Classification", config, **{**ENCODER, **options})
        return Model(name, "bert", make, tasks.topics() if purpose == "Sequence" else tasks.tags())

    def decoder(name: str, config: str, family: str, **options: Any) -> Model:
        make = made(f"{config}ForCausalLM", config, **{**DECODER, **options})
        return Model(name, family, make, tasks.language())

    yield encoder("bert", "Bert")
    yield encoder("bert for tokens", "Bert", "Token")
    whole = made("BertModel", "Bert", **ENCODER)
    yield Model("bert, mean of tokens", "bert", lambda: Pooled(whole(), 32), tasks.topics())
    yield encoder("roberta", "Roberta", pad_token_id=1)
    yield encoder("electra", "Electra", embedding_size=32)
    yield encoder("albert", "Albert", embedding_size=16)
    yield encoder("deberta", "DebertaV2", relative_attention=True, pos_att_type=["p2c", "c2p"])
    small = {"vocab_size": WORDS, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    distil = made("DistilBertForSequenceClassification", "DistilBert", num_labels=CLASSES, **small)
    yield Model("distilbert", "bert", distil, tasks.topics())
    gpt2 = made("GPT2LMHeadModel", "GPT2", vocab_size=WORDS, n_embd=32, n_layer=3, n_head=2, n_positions=32)
    yield Model("gpt2", "gpt", gpt2, tasks.language())
    yield decoder("opt", "OPT", "gpt", ffn_dim=64, word_embed_proj_dim=32)
    yield decoder("gpt-neox", "GPTNeoX", "gpt")
    yield decoder("llama", "Llama", "llama")
    yield decoder("qwen2", "Qwen2", "llama")
    yield decoder("gemma", "Gemma", "llama", head_dim=16)
    yield decoder("mixtral", "Mixtral", "llama", num_local_experts=4)
    yield Model("t5", "t5", made("T5ForConditionalGeneration", "T5", **T5), tasks.copied())
    yield Model("bart", "bart", made("BartForConditionalGeneration", "Bart", **BART), tasks.copied())
    mamba = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
    yield Model("mamba", "mamba", made("MambaForCausalLM", "Mamba", **mamba), tasks.language())
    vit = made("ViTForImageClassification", "ViT", **VIT)
    yield Model("transformers vit", "vit", vit, tasks.pictures())
    segformer = made("SegformerForImageClassification", "Segformer", **SEGFORMER)
    yield Model("segformer", "segformer", segformer, tasks.pictures())


def of_diffusers() -> Iterator[Model]:
    from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DModel

    yield Model("diffusers unet", "diffusion", lambda: UNet2DModel(
        sample_size=16, in_channels=1, out_channels=1, block_out_channels=(16, 32), layers_per_block=1,
        norm_num_groups=8, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8,
    ), tasks.denoised())  # fmt: skip
    yield Model("diffusers autoencoder", "autoencoder kl", lambda: AutoencoderKL(
        in_channels=1, out_channels=1, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(16, 32), norm_num_groups=8,
        latent_channels=4,
    ), tasks.rebuilt(16, 16))  # fmt: skip
    yield Model("diffusers DiT", "diffusion", lambda: OneClass(DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=1, out_channels=1, num_layers=2,
        sample_size=16, patch_size=2, num_embeds_ada_norm=1000, norm_num_groups=8,
    )), tasks.denoised())  # fmt: skip


class OneClass(nn.Module):
    """A diffusion transformer of one class."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        out: Tensor = self.inner(sample, timestep, class_labels=torch.zeros_like(timestep)).sample
        return out


def of_monai() -> Iterator[Model]:
    from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet

    yield Model("monai UNet 3d", "unet", lambda: UNet(
        spatial_dims=3, in_channels=1, out_channels=2, channels=(8, 16, 32), strides=(2, 2), num_res_units=1,
    ), tasks.masks(12, 4, dims=3))  # fmt: skip
    yield Model("monai SegResNet", "segresnet", lambda: SegResNet(
        spatial_dims=2, in_channels=1, out_channels=2, init_filters=8, blocks_down=(1, 2), blocks_up=(1,),
    ), tasks.masks(16))  # fmt: skip
    yield Model("monai BasicUNet", "unet", lambda: BasicUNet(
        spatial_dims=2, in_channels=1, out_channels=2, features=(8, 8, 16, 16, 32, 8),
    ), tasks.masks(32))  # fmt: skip
    yield Model("monai DynUNet", "unet", lambda: DynUNet(
        spatial_dims=2, in_channels=1, out_channels=2, kernel_size=[3, 3, 3], strides=[1, 2, 2],
        upsample_kernel_size=[2, 2], filters=[8, 16, 32],
    ), tasks.masks(16))  # fmt: skip


class GraphNet(nn.Module):
    """Two graph convolutions."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        import torch_geometric.nn as pyg

        def conv(inputs: int, outputs: int) -> nn.Module:
            found: nn.Module = (
                pyg.GINConv(mlp(inputs, 32, outputs))
                if kind == "GIN"
                else getattr(pyg, f"{kind}Conv")(inputs, outputs)
            )
            return found

        self.first, self.second = conv(16, 32), conv(32, CLASSES)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        out: Tensor = self.second(F.relu(self.first(x, edges)), edges)
        return out


def of_graphs() -> Iterator[Model]:
    for kind in ("GCN", "GAT", "SAGE", "GIN"):
        yield Model(f"pyg {kind}", "graph", lambda kind=kind: GraphNet(kind), tasks.graph())


class Policy(nn.Module):
    """Stable-baselines3's actor and critic, evaluated on states and actions as PPO does."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        import gymnasium
        from stable_baselines3.common.policies import ActorCriticPolicy

        states = gymnasium.spaces.Box(-5, 5, (6,))
        self.policy = ActorCriticPolicy(states, gymnasium.spaces.Discrete(4), lambda _: 3e-4, **options)

    def forward(self, states: Tensor, actions: Tensor) -> Any:
        return self.policy.evaluate_actions(states, actions)


class Values(nn.Module):
    """Stable-baselines3's Q-network: the value of each action."""

    def __init__(self) -> None:
        super().__init__()
        import gymnasium
        from stable_baselines3.common.torch_layers import FlattenExtractor
        from stable_baselines3.dqn.policies import QNetwork

        states = gymnasium.spaces.Box(-5, 5, (8,))
        self.net = QNetwork(states, gymnasium.spaces.Discrete(1), FlattenExtractor(states), 8)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.net(states)
        return out


def of_reinforcement() -> Iterator[Model]:
    yield Model("sb3 actor and critic", "policy", Policy, tasks.actions())
    relu = {"net_arch": {"pi": [32, 32], "vf": [32, 32]}, "activation_fn": nn.ReLU, "ortho_init": False}
    yield Model("sb3 actor and critic, ReLU", "policy", lambda: Policy(**relu), tasks.actions())
    yield Model("sb3 Q-network", "policy", Values, tasks.regression())


SOURCES = (
    written_by_hand, of_transformers, of_graphs, of_reinforcement, of_monai, of_diffusers, of_timm,
    smaller_of_timm, added,
)  # fmt: skip


def models() -> list[Model]:
    """All of them; those of a library that is not installed are an error."""
    return [model for source in SOURCES for model in source()]
