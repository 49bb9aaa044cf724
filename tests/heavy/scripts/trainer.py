"""Hugging Face's Trainer with a model of a few weights, on the CPU."""

import os

import torch
import transformers


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, index):
        ids = torch.arange(index, index + 8) % 16
        return {"input_ids": ids, "labels": ids}


config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16, n_positions=8)
config.bos_token_id = config.eos_token_id = 0
arguments = transformers.TrainingArguments(
    output_dir="out",
    max_steps=4,
    per_device_train_batch_size=2,
    use_cpu=True,
    report_to=[],
    save_strategy="no",
    logging_strategy="no",
    disable_tqdm=True,
    dataloader_num_workers=1,
)
trainer = transformers.Trainer(
    model=transformers.GPT2LMHeadModel(config), args=arguments, train_dataset=Data()
)
trainer.train()
sums = [torch.zeros(1) for _ in range(2)]
weights = sum(weight.detach().double().sum() for weight in trainer.model.parameters()).float()
torch.distributed.all_gather(sums, weights.reshape(1))
print(
    "done",
    arguments.world_size,
    arguments.process_index,
    trainer.state.global_step,
    type(trainer.model_wrapped).__name__,
    torch.equal(*sums),
    flush=True,
)
torch.distributed.barrier()
os._exit(0)  # PyTorch may abort while the interpreter ends
