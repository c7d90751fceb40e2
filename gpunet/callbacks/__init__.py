"""Floor 6: what looks on while a model trains. Callbacks get the model as an argument."""

from gpunet.callbacks.backup_and_restore import BackupAndRestore as BackupAndRestore
from gpunet.callbacks.callback import Callback as Callback
from gpunet.callbacks.callback_list import CallbackList as CallbackList
from gpunet.callbacks.csv_logger import CSVLogger as CSVLogger
from gpunet.callbacks.early_stopping import EarlyStopping as EarlyStopping
from gpunet.callbacks.history import History as History
from gpunet.callbacks.lambda_callback import LambdaCallback as LambdaCallback
from gpunet.callbacks.learning_rate import LearningRateScheduler as LearningRateScheduler
from gpunet.callbacks.learning_rate import ReduceLROnPlateau as ReduceLROnPlateau
from gpunet.callbacks.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from gpunet.callbacks.monitor_callback import MonitorCallback as MonitorCallback
from gpunet.callbacks.progbar import Progbar as Progbar
from gpunet.callbacks.progbar import ProgbarLogger as ProgbarLogger
from gpunet.callbacks.swap_ema_weights import SwapEMAWeights as SwapEMAWeights
from gpunet.callbacks.terminate_on_nan import TerminateOnNaN as TerminateOnNaN
