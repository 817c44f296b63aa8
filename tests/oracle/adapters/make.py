#!/usr/bin/env python3
"""Make the oracle of adapters: PEFT's own adapters of the tiny models of ../models, and the logits that PEFT gives with them.

usage: make.py [NAME...]

For each case the model of ../models/make.py is made again (same seed, so the same weights as its GGUF), gets a LoRA by
peft.get_peft_model with random A and B, is saved by save_pretrained, and is run in fp32 with eager attention on random ids. Written
beside this script: NAME/adapter_config.json, NAME/adapter_model.safetensors, and NAME.vec as ../models/make.py describes.
Versions that made the committed files are in VERSIONS."""
import importlib.util, json, pathlib, sys

import numpy as np
import peft
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("models", HERE.parent / "models" / "make.py")
models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# name: (model, LoRA)
CASES = {
    "llama": ("llama", dict(r=4, lora_alpha=10, target_modules=ALL, rank_pattern={"model.layers.1.self_attn.q_proj": 7, "up_proj": 2},
                            alpha_pattern={"layers.0.mlp.down_proj": 3})),
    "qwen2-rslora": ("qwen2", dict(r=5, lora_alpha=3, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"])),
    "gemma3": ("gemma3", dict(r=3, lora_alpha=6, target_modules=ALL, layers_to_transform=[0, 2, 5])),
}


def make(name):
    base, lora = CASES[name]
    cfg, cls, outtype, _ = models.CASES[base]
    seed = sum(base.encode())
    torch.manual_seed(seed)
    cfg._attn_implementation = "eager"
    model = cls(cfg).float().eval()
    models.randomize(model, outtype, seed)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **lora))
    rng = torch.Generator().manual_seed(seed + 1)
    for key, p in model.named_parameters():
        if "lora_" in key:
            p.data = torch.randn(p.shape, generator=rng) * 0.3 / p.shape[1] ** 0.5
    model.eval()
    model.save_pretrained(HERE / name)
    (HERE / name / "README.md").unlink(missing_ok=True)
    config = json.loads((HERE / name / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base
    (HERE / name / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    models.write_vectors(model, HERE / f"{name}.vec", 96, seed + 2, getattr(cfg, "sliding_window", None))


for name in sys.argv[1:] or CASES:
    make(name)
(HERE / "VERSIONS").write_text(f"peft {peft.__version__}\ntransformers {transformers.__version__}\ntorch {torch.__version__}\n")
