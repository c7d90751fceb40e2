"""Floor 7: models, which are layers that can be trained, summarised and saved."""

from gpunet.models.cloning import clone_model as clone_model
from gpunet.models.compile_loss import CompileLoss as CompileLoss
from gpunet.models.compile_metrics import CompileMetrics as CompileMetrics
from gpunet.models.compile_metrics import MetricsList as MetricsList
from gpunet.models.function import Function as Function
from gpunet.models.functional import Functional as Functional
from gpunet.models.model import Model as Model
from gpunet.models.model import model_from_json as model_from_json
from gpunet.models.sequential import Sequential as Sequential
from gpunet.models.trainer import Trainer as Trainer
from gpunet.saving import load_model as load_model
from gpunet.saving import save_model as save_model
