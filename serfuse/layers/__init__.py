"""Keras layers of the fusions. They work on TensorFlow, torch and JAX, and serialize under the name `serfuse`."""

from .clip_norm import ClipNorm
from .exp_map0 import ExpMap0
from .feature_transport import FeatureTransport
from .gyro_midpoint import GyroMidpoint
from .hadamard import Hadamard
from .layer_weights import LayerWeights
from .log_map0 import LogMap0
from .log_pool import LogPool
from .member_dense import MemberDense
from .mobius_add import MobiusAdd
from .reference_set import ReferenceSet
from .reference_transport import ReferenceTransport
from .sinkhorn_transport import SinkhornTransport

__all__ = [
    "ClipNorm",
    "ExpMap0",
    "FeatureTransport",
    "GyroMidpoint",
    "Hadamard",
    "LayerWeights",
    "LogMap0",
    "LogPool",
    "MemberDense",
    "MobiusAdd",
    "ReferenceSet",
    "ReferenceTransport",
    "SinkhornTransport",
]
