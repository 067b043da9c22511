# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""DLPack capsules of either kind, made by hand, of an array's memory."""
import ctypes


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]


class _Dtype(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", _Device), ("ndim", ctypes.c_int),
                ("dtype", _Dtype), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Legacy(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER)]


class _Versioned(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32),
                ("context", ctypes.c_void_p), ("deleter", _DELETER), ("flags", ctypes.c_uint64),
                ("tensor", _Tensor)]


READ_ONLY, COPIED = 1, 2
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class Exporter:
    """Has the memory of a float32 numpy array and counts how often it got it back."""

    def __init__(self, array, versioned=True, major=1, flags=0, device=1):
        self.array, self.returned = array, 0
        self._name = b"dltensor_versioned" if versioned else b"dltensor"
        self._managed = managed = _Versioned() if versioned else _Legacy()
        if versioned:
            managed.major, managed.minor, managed.flags = major, 1, flags
        managed.deleter = _DELETER(self._given_back)
        self._shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        managed.tensor = _Tensor(array.ctypes.data, _Device(device, 0), array.ndim, _Dtype(2, 32, 1),
                                 self._shape, None, 0)

    def _given_back(self, _):
        self.returned += 1

    def capsule(self):
        return _new_capsule(ctypes.addressof(self._managed), self._name, None)

    def __dlpack__(self, **_):
        return self.capsule()
