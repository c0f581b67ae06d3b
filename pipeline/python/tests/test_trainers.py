"""The loops of other libraries, where they are installed; `docs/PYTHON.md` shows the same."""

import pytest
from conftest import AUGMENTED, CLASSES, copied

import fovea_loader as fovea


def linear(torch):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, CLASSES))


def test_jax_takes_the_arrays(make):
    jax = pytest.importorskip("jax")
    loader = make(dtype="float32", channels_last=True, transform=AUGMENTED)
    expected = copied(make(dtype="float32", channels_last=True, transform=AUGMENTED))
    seen = []
    for images, target in loader:
        images, target = jax.device_put((images, target))
        assert images.shape == (8, 16, 16, 3)
        seen.append((images, target))
    import numpy

    assert copied((numpy.asarray(images), numpy.asarray(target)) for images, target in seen) == expected


def test_lightning_trains_and_goes_on_at_the_batch_of_its_checkpoint(make, tmp_path):
    torch = pytest.importorskip("torch")
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network, self.seen = linear(torch), []

        def training_step(self, batch, _):
            images, target = batch
            self.seen.append((images.sum().item(), target.tolist()))
            return torch.nn.functional.cross_entropy(self.network(images), target)

        def validation_step(self, batch, _):
            images, target = batch
            self.log("loss", torch.nn.functional.cross_entropy(self.network(images), target))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    def fit(steps, checkpoint=None):
        def loader(split):
            return make(split=split, arrays="torch", dtype="float32", transform=[fovea.RandomCrop(16)])

        module = Module()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        saving = lightning.callbacks.ModelCheckpoint(tmp_path, filename=f"{steps}", every_n_train_steps=steps)
        trainer = lightning.Trainer(max_steps=steps, callbacks=[saving], num_sanity_val_steps=0, **quiet)
        trainer.fit(module, loader("train"), loader("val"), ckpt_path=checkpoint)
        return module.seen

    whole = fit(14)
    assert len(whole) == 14
    assert fit(9) == whole[:9]
    assert fit(14, tmp_path / "9.ckpt") == whole[9:]


def test_accelerate_needs_no_preparation_of_the_loader(make):
    torch = pytest.importorskip("torch")
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = linear(torch)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.01))
    loader = make(arrays=None, dtype="float32", transform=[fovea.RandomCrop(16)], device=accelerator.device)
    steps = 0
    for images, target in loader:
        loss = torch.nn.functional.cross_entropy(model(images), target)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    assert steps == len(loader) == 6


def test_the_trainer_of_hugging_face_takes_dicts(make, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Batches:
        def __init__(self, loader):
            self.loader, self.dataset = loader, loader.dataset

        def __len__(self):
            return len(self.loader)

        def __iter__(self):
            return ({"pixel_values": images, "labels": target} for images, target in self.loader)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.seen = linear(torch), 0

        def forward(self, pixel_values, labels):
            self.seen += len(labels)
            logits = self.network(pixel_values)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    class PhotoTrainer(transformers.Trainer):
        def get_train_dataloader(self):
            return Batches(make(arrays="torch", dtype="float32", transform=[fovea.RandomCrop(16)]))

    arguments = transformers.TrainingArguments(
        tmp_path, num_train_epochs=2, per_device_train_batch_size=8, report_to=[], use_cpu=True, save_strategy="no"
    )
    network = Network()
    result = PhotoTrainer(network, arguments).train()
    assert (result.global_step, network.seen) == (12, 96)
