"""Every layer's gradient in the Trainer of transformers: one callback. The model is tiny and untrained."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import gradscape as gs
from gradscape.integrations import trackers
from gradscape.integrations.transformers import WatchCallback

config = GPT2Config(
    vocab_size=64, n_positions=32, n_embd=32, n_layer=4, n_head=2, bos_token_id=0, eos_token_id=0
)
texts = [{"input_ids": tokens, "labels": tokens} for tokens in torch.randint(0, 64, (64, 32))]
seen = WatchCallback(sinks=[trackers.JsonLines("gradients.jsonl")])
arguments = TrainingArguments(
    "output", max_steps=10, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True
)
Trainer(GPT2LMHeadModel(config), arguments, train_dataset=texts, callbacks=[seen]).train()
history = seen.flow.history()
print(history)
print(gs.diagnose(history))
print(f"read {history.seen}")
