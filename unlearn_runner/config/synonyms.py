"""Synonyms: what other projects call our settings, so that a fix offers what was meant.

Hugging Face's Trainer, TRL, open-unlearning, lm-evaluation-harness and Hydra's launchers. A word
that is not here, and is no slip of one of ours, gets no fix rather than another setting.
"""

from __future__ import annotations

from unlearn_runner.errors import assignment


def synonym(key: str, value: object) -> str:
    """Returns the override that a key of another project stands for, or nothing.

    Args:
        key: Dotted; the whole of it, then its last word are looked up.
        value: What it was to be.
    """
    found = SYNONYMS.get(key) or SYNONYMS.get(key.rpartition(".")[2], "")
    words, _, values = found.partition("|")
    if not values:
        return words if "=" in words or not words else assignment(words, value)
    pairs = dict(item.split(":") for item in values.split(","))
    chosen = pairs.get(str(value).lower(), "")
    return f"{words}={chosen}" if chosen else ""


SYNONYMS = {
    # optimization
    "learning_rate": "train.lr",
    "lr": "train.lr",
    "per_device_train_batch_size": "train.micro_batch",
    "train_batch_size": "train.batch_size",
    "bs": "train.batch_size",
    "num_train_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "max_steps": "train.steps",
    "lr_scheduler_type": "train.schedule|constant:constant,constant_with_warmup:constant,"
    "linear:linear,cosine:cosine",
    "scheduler": "train.schedule|constant:constant,linear:linear,cosine:cosine",
    "max_grad_norm": "train.clip",
    "gradient_clip_val": "train.clip",
    "clip_grad_norm": "train.clip",
    "grad_clip": "train.clip",
    "wd": "train.weight_decay",
    "adam_epsilon": "train.eps",
    "bf16": "train.precision|true:bf16,false:float32",
    "mixed_precision": "train.precision|bf16:bf16,no:float32",
    "dtype": "train.precision|bfloat16:bf16,bf16:bf16,float32:float32,fp32:float32",
    "max_seq_length": "train.max_length",
    "max_seq_len": "train.max_length",
    "model_max_length": "train.max_length",
    "save_steps": "train.checkpoint_every",
    "use_gradient_checkpointing": "train.gradient_checkpointing",
    # evaluation, records
    "eval_steps": "evaluate.every",
    "per_device_eval_batch_size": "evaluate.batch_size",
    "eval_batch_size": "evaluate.batch_size",
    "max_new_tokens": "benchmark.generate.max_new_tokens",
    "report_to": "tracker|wandb:wandb,tensorboard:tensorboard,none:files",
    "logger": "tracker|wandb:wandb,tensorboard:tensorboard,none:files",
    "wandb_project": "tracker.project",
    "run_name": "name",
    "task_name": "name",
    "experiment_name": "name",
    "save_dir": "output_dir",
    "logging_dir": "output_dir",
    "outdir": "output_dir",
    "hydra.run.dir": "output_dir",
    "hydra.sweep.dir": "output_dir",
    "hydra.job.name": "name",
    "random_seed": "seed",
    "data_seed": "seed",
    "torch_seed": "seed",
    "dry_run": "plan_only",
    "save_strategy": "keep|no:scores,steps:checkpoints,epoch:checkpoints",
    # open-unlearning's command line
    "forget_split": "benchmark.forget",
    "retain_logs_path": "retain_model.log",
    "trainer": "method|gradascent:ga,graddiff:gd,npo:npo,simnpo:simnpo,dpo:dpo,rmu:rmu,"
    "undial:undial,ceu:ceu,satimp:satimp,wga:wga,pdu:pdu",
    "trainer.handler": "method|gradascent:ga,graddiff:gd,npo:npo,simnpo:simnpo,dpo:dpo,rmu:rmu,"
    "undial:undial,ceu:ceu,satimp:satimp,wga:wga,pdu:pdu",
    "unlearn_method": "method|grad_ascent:ga,grad_diff:gd,ga:ga,gd:gd,kl:kl,idk:idk,npo:npo",
    "forget_loss": "method|grad_ascent:ga,grad_diff:gd,ga:ga,gd:gd,kl:kl,idk:idk,npo:npo,dpo:dpo",
    "data_path": "benchmark.data_dir",
    "dataset_path": "benchmark.data_dir",
    "model_name_or_path": "target.path",
    "pretrained_model_name_or_path": "target.path",
    "model_path": "target.path",
    "coeff": "method.retain.weight",
    "retain_loss_type": "method.retain.loss|nll:nll,kl:kl,none:none",
    # models, adapters
    "attn_implementation": "parallel.attention",
    "torch_dtype": "train.precision|bfloat16:bf16,bf16:bf16,float32:float32,fp32:float32",
    "device": "parallel.device",
    "use_cpu": "parallel.device|true:cpu",
    "no_cuda": "parallel.device|true:cpu",
    "nproc_per_node": "parallel.ranks",
    "num_gpus": "parallel.ranks",
    "world_size": "parallel.ranks",
    "nnodes": "parallel.nodes",
    "deepspeed": "parallel=fsdp2",
    "fsdp": "parallel=fsdp2",
    "cpu_offload": "parallel.offload",
    "use_peft": "adapter|true:lora",
    "use_lora": "adapter|true:lora",
    "lora_r": "adapter.rank",
    "r": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "target_modules": "adapter.targets|all-linear:all_linear,all_linear:all_linear",
    "lora_target_modules": "adapter.targets|all-linear:all_linear,all_linear:all_linear",
    # Hydra's launchers
    "hydra/launcher": "cluster|submitit_slurm:slurm,submitit_local:local,joblib:local",
    "hydra/sweeper": "sweep|optuna:search",
    "hydra.launcher.partition": "cluster.partition",
    "hydra.launcher.timeout_min": "cluster.time_min",
    "hydra.launcher.gpus_per_node": "cluster.gpus",
    "hydra.launcher.n_jobs": "cluster.jobs",
}
"""By key or last word of one: our key, or our key and, after a bar, our value for each of theirs.

`gradient_accumulation_steps`, `warmup_ratio` and `resume` have no equal: `NOTES` answers them."""

NOTES = {
    "gradient_accumulation_steps": "train.batch_size counts all rows of a step, and "
    "train.micro_batch those of one forward pass",
    "warmup_ratio": "train.warmup_epochs or train.warmup_steps say how long the rate rises",
    "resume": "the same command goes on where it was interrupted",
    "resume_from_checkpoint": "the same command goes on where it was interrupted",
    "fp16": "train.precision is float32, bf16 or float64",
    "optim": "the optimizer is AdamW, with train.betas, train.eps and train.weight_decay",
}
"""What takes the place of a setting that we do not have."""


def note(key: str) -> str:
    """Returns what takes the place of another project's setting, in words; or nothing."""
    return NOTES.get(key.rpartition(".")[2], "")
