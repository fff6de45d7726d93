"""Names of Ray's own extension module that libraries look up there."""

from mobula._core import ObjectRef
from mobula._generator import DynamicObjectRefGenerator, ObjectRefGenerator
from mobula._ids import (
    ActorClassID,
    ActorID,
    ClusterID,
    FunctionID,
    JobID,
    NodeID,
    PlacementGroupID,
    TaskID,
    UniqueID,
    WorkerID,
)
from mobula.cross_language import Language

ObjectID = ObjectRef
StreamingObjectRefGenerator = ObjectRefGenerator

# What `num_returns` says of a task that yields.
STREAMING_GENERATOR_RETURN = -2

__all__ = [
    "STREAMING_GENERATOR_RETURN",
    "ActorClassID",
    "ActorID",
    "ClusterID",
    "DynamicObjectRefGenerator",
    "FunctionID",
    "JobID",
    "Language",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "StreamingObjectRefGenerator",
    "TaskID",
    "UniqueID",
    "WorkerID",
]
