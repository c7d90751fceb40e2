"""Random numbers: stateless functions of a seed, and the generator that counts draws."""

from gpunet.random.draws import beta as beta
from gpunet.random.draws import binomial as binomial
from gpunet.random.draws import categorical as categorical
from gpunet.random.draws import dropout as dropout
from gpunet.random.draws import gamma as gamma
from gpunet.random.draws import normal as normal
from gpunet.random.draws import randint as randint
from gpunet.random.draws import shuffle as shuffle
from gpunet.random.draws import truncated_normal as truncated_normal
from gpunet.random.draws import uniform as uniform
from gpunet.random.seed_generator import SeedGenerator as SeedGenerator
from gpunet.random.seed_generator import global_seed_generator as global_seed_generator
from gpunet.random.seed_generator import set_random_seed as set_random_seed
