"""Floor 5: data on its way into a model: what users pass to `fit`, cut into batches of tensors."""

from gpunet.data.adapter import DataAdapter as DataAdapter
from gpunet.data.arrays import ArrayDataAdapter as ArrayDataAdapter
from gpunet.data.arrays import train_validation_split as train_validation_split
from gpunet.data.batches import class_weight_to_sample_weights as class_weight_to_sample_weights
from gpunet.data.batches import pack_x_y_sample_weight as pack_x_y_sample_weight
from gpunet.data.batches import unpack_x_y_sample_weight as unpack_x_y_sample_weight
from gpunet.data.choose import get_data_adapter as get_data_adapter
from gpunet.data.epochs import EpochIterator as EpochIterator
from gpunet.data.epochs import TensorEpochIterator as TensorEpochIterator
from gpunet.data.iterables import GeneratorDataAdapter as GeneratorDataAdapter
from gpunet.data.iterables import IterableDataAdapter as IterableDataAdapter
from gpunet.data.py_dataset import PyDataset as PyDataset
from gpunet.data.py_dataset import PyDatasetAdapter as PyDatasetAdapter
