"""Which dtype a layer computes in, and which its weights have: the policies of mixed precision."""

import re
from collections.abc import Iterator, MutableMapping
from typing import Any

from gpunet.config import floatx
from gpunet.core.symbolic import KerasTensor
from gpunet.core.tensor import Operators, as_tensor
from gpunet.dtypes import is_float, standardize_dtype
from gpunet.errors import ArgumentError, DTypeError, received
from gpunet.ops import cast
from gpunet.saving import deserialize_keras_object, serializable, serialize_keras_object
from gpunet.saving.lookup import Names

_MIXED = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


@serializable("keras")
class DTypePolicy:
    """A compute dtype and a variable dtype.

    Args:
        name: `"mixed_float16"` or `"mixed_bfloat16"` (compute in 16 bits, variables in float32), or
            a dtype that is used for both. Default: the global policy's name.

    Raises:
        ArgumentError: If the name means no policy.
        DTypeError: If the name is no string.

    Example:
        >>> policy = DTypePolicy("mixed_bfloat16")
        >>> policy.compute_dtype, policy.variable_dtype
        ('bfloat16', 'float32')
    """

    def __init__(self, name: str | None = None):
        name = dtype_policy().name if name is None else name
        self._compute_dtype, self._variable_dtype = self._parse_name(name)
        self._name: str = name

    def _parse_name(self, name):
        if not isinstance(name, str):
            raise DTypeError(
                "'name' must be a string, such as 'mixed_float16'. "
                + received(name=name, type=type(name))
            )
        if name in _MIXED:
            return _MIXED[name], "float32"
        try:
            dtype = standardize_dtype(name)
        except DTypeError as error:
            raise ArgumentError(
                f"Cannot convert '{name}' to a mixed precision DTypePolicy. Valid policies are "
                "'mixed_float16', 'mixed_bfloat16' and the names of dtypes such as 'float32'. "
                + received(name=name)
            ) from error
        return dtype, dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype in which weights are kept."""
        return self._variable_dtype

    @property
    def compute_dtype(self) -> str:
        """The dtype in which layers compute and return their results."""
        return self._compute_dtype

    @property
    def name(self) -> str:
        """The name given to the constructor."""
        return self._name

    @property
    def quantization_mode(self) -> str | None:
        """Always `None`: gpunet does not quantize layers."""
        return None

    def convert_input(self, x: Any, autocast: bool, dtype: Any) -> Any:
        """Returns one input of a layer as a tensor, floats in the dtype the layer computes in.

        Args:
            x: Tensor, Variable, KerasTensor or array; anything else is returned as it is.
            autocast: Whether floats are cast.
            dtype: The target dtype.
        """
        dtype = standardize_dtype(dtype)
        if not isinstance(x, KerasTensor):
            if not isinstance(x, Operators) and not hasattr(x, "__array__"):
                return x
            x = as_tensor(x)
        return cast(x, dtype) if autocast and x.dtype != dtype and is_float(x.dtype) else x

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> "DTypePolicy":
        """Makes a policy from what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'

    def __eq__(self, other: object) -> bool:
        plain = (DTypePolicy, FloatDTypePolicy)
        return type(self) in plain and type(other) in plain and self.name == other.name  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self.name)


@serializable("keras")
class FloatDTypePolicy(DTypePolicy):
    """Another name of `DTypePolicy`."""


@serializable("keras.dtype_policies")
class DTypePolicyMap(DTypePolicy, MutableMapping):
    """Policies by the path of the layer; a layer that is not named takes the default.

    Args:
        default_policy: Policy of the layers that no key names; default the global one.
        policy_map: Dict from paths, or regular expressions that match them, to policies.

    Raises:
        ArgumentError: If the default is a map.
        DTypeError: If `policy_map` is no dict.

    Example:
        >>> policies = DTypePolicyMap("float32", {"block_.*/dense": DTypePolicy("mixed_float16")})
        >>> policies["block_3/dense"].name, policies["head"].name
        ('mixed_float16', 'float32')
    """

    def __init__(self, default_policy: Any = None, policy_map: dict | None = None):
        if isinstance(default_policy, DTypePolicyMap):
            raise ArgumentError(
                f"`default_policy` cannot be a `DTypePolicyMap`. {received(policy=default_policy)}"
            )
        if policy_map is not None and not isinstance(policy_map, dict):
            raise DTypeError(f"`policy_map` must be a dict. {received(policy_map=policy_map)}")
        self._default_policy_arg = default_policy
        self._default_policy = get(default_policy)
        self._policy_map = {} if policy_map is None else policy_map

    @property
    def default_policy(self) -> DTypePolicy:
        """The policy of the layers that no key names."""
        return self._default_policy

    @property
    def name(self) -> str:
        """`map_` and the name of the default policy."""
        return f"map_{self._default_policy.name}"

    @property
    def variable_dtype(self) -> str:
        """That of the default policy."""
        return self._default_policy.variable_dtype

    @property
    def compute_dtype(self) -> str:
        """That of the default policy."""
        return self._default_policy.compute_dtype

    def __getitem__(self, key: str) -> DTypePolicy:
        if key in self._policy_map:
            return self._policy_map[key]
        matching = [pattern for pattern in self._policy_map if re.fullmatch(pattern, key)]
        if len(matching) > 1:
            raise ArgumentError(
                f"Path '{key}' matches multiple dtype policy specification keys: {matching}. "
                "Make sure that each path matches at most one key. " + received(path=key)
            )
        return self._policy_map[matching[0]] if matching else self._default_policy

    def __setitem__(self, key: str, policy: Any) -> None:
        if key in self._policy_map:
            raise ArgumentError(
                f"{key} already exist in the DTypePolicyMap with value {self._policy_map[key]}. "
                + received(key=key)
            )
        self._policy_map[key] = get(policy)

    def __delitem__(self, key: str) -> None:
        del self._policy_map[key]

    def __contains__(self, key: object) -> bool:
        return key in self._policy_map

    def __len__(self) -> int:
        return len(self._policy_map)

    def __iter__(self) -> Iterator[str]:
        return iter(self._policy_map)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicyMap) and (
            (self._default_policy, self._policy_map) == (other._default_policy, other._policy_map)
        )

    __hash__ = object.__hash__  # it can change

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            "default_policy": self._default_policy_arg,
            "policy_map": serialize_keras_object(self._policy_map),
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "DTypePolicyMap":
        """Makes a map from what `get_config` returned."""
        policies = deserialize_keras_object(config["policy_map"], custom_objects)
        return cls(**{**config, "policy_map": policies})

    def __repr__(self) -> str:
        mapping = {key: policy.name for key, policy in self._policy_map.items()}
        return f"<DTypePolicyMap default_policy={self._default_policy.name}, mapping={mapping}>"


_global: DTypePolicy | None = None
_NAMES = Names(
    "dtype policy", "keras.dtype_policies", [DTypePolicy, FloatDTypePolicy, DTypePolicyMap]
)


def dtype_policy() -> DTypePolicy:
    """Returns the policy of layers that are given no `dtype`; at first that of `floatx()`."""
    return _global if _global is not None else DTypePolicy(floatx())


def set_dtype_policy(policy: Any) -> None:
    """Sets the policy of layers that are given no `dtype`.

    Args:
        policy: A policy, or the name of one, such as `"mixed_float16"`.

    Raises:
        ArgumentError: If it is neither.

    Example:
        >>> set_dtype_policy("mixed_bfloat16")
        >>> dtype_policy().compute_dtype
        'bfloat16'
        >>> set_dtype_policy("float32")
    """
    global _global
    if isinstance(policy, str):
        policy = DTypePolicy(policy)
    if not isinstance(policy, DTypePolicy):
        raise ArgumentError(
            "Invalid `policy` argument. Expected the name of a policy (such as 'mixed_float16') or "
            f"a `DTypePolicy`. {received(policy=policy, type=type(policy))}"
        )
    _global = policy


def serialize(dtype_policy: DTypePolicy) -> Any:
    """Returns the config of a policy."""
    return serialize_keras_object(dtype_policy)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """Returns the policy of a config.

    Raises:
        SavingError: If nothing has that name.
    """
    return _NAMES.deserialize(config, custom_objects)


def get(identifier: Any) -> DTypePolicy:
    """Returns the policy that a policy, name, dtype, config or `None` (the global one) stands for.

    Raises:
        ArgumentError: If the identifier means no policy.

    Example:
        >>> get("float16")
        <DTypePolicy "float16">
    """
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        return DTypePolicy(identifier)
    try:
        return DTypePolicy(standardize_dtype(identifier))
    except DTypeError as error:
        raise ArgumentError(
            "Cannot interpret `dtype` argument. Expected a string or an instance of DTypePolicy. "
            + received(dtype=identifier)
        ) from error
