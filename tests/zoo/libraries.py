"""Models of other people's libraries, as small as they can be made; each says which library it is of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from zoo.cases import Case

IDS = torch.arange(32).reshape(4, 8) * 7 % 50
LABELS = torch.arange(4) % 2
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def of(config: str, model: str, **settings: Any) -> Callable[[], nn.Module]:
    """A model of transformers with random weights."""

    def make() -> nn.Module:
        import transformers

        found: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**settings))
        return found

    return make


TOKENS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
LANGUAGE = {"input_ids": IDS, "labels": IDS}
GPT2 = of(
    "GPT2Config", "GPT2LMHeadModel", vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=16,
    bos_token_id=0, eos_token_id=0,
)  # fmt: skip
NO_SECOND = "has no second derivative"


def clip_loss(output: Any, batch: Any) -> Tensor:
    return cross_entropy(output.logits_per_image, torch.arange(len(batch["input_ids"])))


TRANSFORMERS: dict[str, Case] = {
    "bert": Case(
        of("BertConfig", "BertForSequenceClassification", vocab_size=50, max_position_embeddings=16, **SMALL),
        {"input_ids": IDS, "labels": LABELS},
        None,
    ),
    "gpt2": Case(GPT2, LANGUAGE, None),
    "llama": Case(
        of("LlamaConfig", "LlamaForCausalLM", vocab_size=50, max_position_embeddings=16, **SMALL, **TOKENS),
        LANGUAGE,
        None,
    ),
    "t5": Case(
        of(
            "T5Config", "T5ForConditionalGeneration", vocab_size=50, d_model=16, d_kv=8, d_ff=32,
            num_layers=2, num_heads=2, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
        ),
        LANGUAGE,
        None,
    ),
    "vit": Case(
        of("ViTConfig", "ViTForImageClassification", image_size=16, patch_size=8, num_labels=2, **SMALL),
        {"pixel_values": torch.randn(4, 3, 16, 16), "labels": LABELS},
        None,
    ),
    "whisper": Case(
        of(
            "WhisperConfig", "WhisperForConditionalGeneration", vocab_size=50, d_model=16, encoder_layers=1,
            decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
            decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=20, max_target_positions=16,
            decoder_start_token_id=0, begin_suppress_tokens=None, suppress_tokens=None, **TOKENS,
        ),
        {"input_features": torch.randn(4, 8, 40), "labels": IDS},
        None,
    ),
    "mamba": Case(
        of("MambaConfig", "MambaForCausalLM", vocab_size=50, hidden_size=16, state_size=4,
           num_hidden_layers=2, **TOKENS),
        LANGUAGE,
        None,
    ),
    "mixtral": Case(
        of("MixtralConfig", "MixtralForCausalLM", vocab_size=50, max_position_embeddings=16,
           num_local_experts=2, num_key_value_heads=1, **SMALL, **TOKENS),
        LANGUAGE,
        None,
    ),
    "clip": Case(
        of(
            "CLIPConfig", "CLIPModel", projection_dim=8,
            text_config={"vocab_size": 50, "max_position_embeddings": 16, **SMALL, **TOKENS},
            vision_config={"image_size": 16, "patch_size": 8, **SMALL},
        ),
        {"input_ids": IDS, "pixel_values": torch.randn(4, 3, 16, 16)},
        clip_loss,
    ),
    "wav2vec2": Case(
        of(
            "Wav2Vec2Config", "Wav2Vec2ForCTC", vocab_size=10, conv_dim=(8, 8), conv_kernel=(10, 3),
            conv_stride=(5, 2), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
            mask_time_length=2, layerdrop=0.0, pad_token_id=0, **SMALL,
        ),
        {"input_values": torch.randn(2, 800), "labels": torch.randint(1, 10, (2, 4))},
        None,
        {"curvature": NO_SECOND},
    ),
}  # fmt: skip


def timm_model(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        found: nn.Module = timm.create_model(name, num_classes=3)
        return found

    return make


def diffusers_unet() -> nn.Module:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def monai_unet() -> nn.Module:
    from monai.networks.nets import UNet

    return UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,))


def monai_dynunet() -> nn.Module:
    from monai.networks.nets import DynUNet

    return DynUNet(
        spatial_dims=2, in_channels=1, out_channels=2, kernel_size=[3, 3, 3], strides=[1, 2, 2],
        upsample_kernel_size=[2, 2], filters=[4, 8, 8],
    )  # fmt: skip


def monai_tensor(values: Tensor) -> Tensor:
    from monai.data import MetaTensor

    return MetaTensor(values)


def graph_network() -> nn.Module:
    from torch_geometric.nn import GAT

    return GAT(8, 16, 2, 3)


class OnData(nn.Module):
    """A graph network that is given PyTorch Geometric's Data."""

    def __init__(self) -> None:
        super().__init__()
        self.net = graph_network()

    def forward(self, data: Any) -> Tensor:
        return self.net(data.x, data.edge_index)


EDGES = torch.stack([torch.arange(160) % 80, torch.arange(160) * 7 % 80])


def graph() -> Any:
    from torch_geometric.data import Data

    return Data(x=torch.randn(80, 8), edge_index=EDGES, y=torch.arange(80) % 3)


def lora() -> nn.Module:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(GPT2(), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))  # type: ignore[no-any-return]


def segmentation() -> nn.Module:
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(8, 8, 8), classes=2)


def x_transformer() -> nn.Module:
    from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

    decoder = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8)
    return AutoregressiveWrapper(TransformerWrapper(num_tokens=50, max_seq_len=16, attn_layers=decoder))


def tabnet() -> nn.Module:
    from pytorch_tabnet.tab_network import TabNet

    matrix = torch.eye(8)
    return TabNet(8, 3, n_d=4, n_a=4, n_steps=2, virtual_batch_size=8, group_attention_matrix=matrix)


def policy() -> nn.Module:
    from stable_baselines3 import PPO

    return PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=8, device="cpu").policy


def policy_loss(model: Any, batch: Any) -> Tensor:
    values, log_probability, entropy = model.evaluate_actions(batch["seen"], batch["done"])
    return mse_loss(values.flatten(), batch["returns"]) - log_probability.mean() - 0.01 * entropy.mean()


def tensordict_module() -> nn.Module:
    from tensordict.nn import TensorDictModule

    net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    return TensorDictModule(net, in_keys=["seen"], out_keys=["logits"])


def tensordict() -> Any:
    from tensordict import TensorDict

    return TensorDict({"seen": torch.randn(6, 8), "y": torch.arange(6) % 3}, batch_size=[6])


class Sentences(nn.Module):
    """sentence-transformers' own layers, which hand one dict on."""

    def __init__(self) -> None:
        super().__init__()
        from sentence_transformers.sentence_transformer.modules import Pooling

        make = of("BertConfig", "BertModel", vocab_size=50, max_position_embeddings=16, **SMALL)
        self.bert, self.pooling, self.head = make(), Pooling(16), nn.Linear(16, 2)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        found = self.bert(**features).last_hidden_state
        pooled = self.pooling({"token_embeddings": found, "attention_mask": features["attention_mask"]})
        return self.head(pooled["sentence_embedding"])


def private() -> nn.Module:
    from opacus import GradSampleModule

    return GradSampleModule(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)))


# Opacus notes activations in train mode only, and its backward pass wants them.
EVAL_MODE = dict.fromkeys(
    ("smoothness", "smoothness of a step", "curvature", "noise"), "No activations detected for"
) | dict.fromkeys(("check", "lr range"), "the copy that is trained fails")
X8, Y3 = torch.randn(6, 8), torch.arange(6) % 3
IMAGES = torch.randn(2, 3, 32, 32)
# Library → its cases; batches of the library's own types are functions that make them.
LIBRARIES: dict[str, dict[str, Case]] = {
    "timm": {
        name: Case(timm_model(name), (IMAGES, torch.tensor([0, 2])), cross_entropy)
        for name in ("resnet10t", "efficientnet_lite0", "convnext_atto")
    },
    "diffusers": {
        "unet": Case(
            diffusers_unet,
            ({"sample": torch.randn(2, 3, 8, 8), "timestep": torch.tensor([1, 2])}, torch.randn(2, 3, 8, 8)),
            lambda output, y: mse_loss(output.sample, y),
        )
    },
    "monai": {
        "unet": Case(monai_unet, (torch.randn(2, 1, 8, 8, 8), torch.ones(2, 8, 8, 8).long()), cross_entropy),
        "dynunet": Case(
            monai_dynunet, (torch.randn(2, 1, 16, 16), torch.ones(2, 16, 16).long()), cross_entropy
        ),
        "metatensor": Case(
            lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3)),
            lambda: (monai_tensor(torch.randn(6, 1, 8, 8)), Y3),
            cross_entropy,
        ),
    },
    "torch_geometric": {
        "gat": Case(graph_network, ((torch.randn(80, 8), EDGES), torch.arange(80) % 3), cross_entropy),
        "data": Case(OnData, graph, lambda output, data: cross_entropy(output, data.y)),
    },
    "peft": {"lora": Case(lora, LANGUAGE, None)},
    "segmentation_models_pytorch": {
        "unet": Case(segmentation, (torch.randn(2, 3, 32, 32), torch.ones(2, 32, 32).long()), cross_entropy)
    },
    "x_transformers": {"decoder": Case(x_transformer, (IDS, None), lambda output, _: output)},
    "pytorch_tabnet": {"tabnet": Case(tabnet, (X8, Y3), lambda output, y: cross_entropy(output[0], y))},
    "stable_baselines3": {
        "ppo": Case(
            policy,
            {"seen": torch.randn(6, 4), "done": torch.arange(6) % 2, "returns": torch.randn(6)},
            policy_loss,
        )
    },
    "tensordict": {
        "module": Case(
            tensordict_module, tensordict, lambda output, batch: cross_entropy(output["logits"], batch["y"])
        )
    },
    "opacus": {"private": Case(private, (X8, Y3), cross_entropy, EVAL_MODE)},
    "sentence_transformers": {
        "sentences": Case(
            Sentences, ({"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}, LABELS), cross_entropy
        )
    },
}
