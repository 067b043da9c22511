// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What NCCL and a network plugin agree on, versions 8 to 12: the layout of the tables a plugin
// exports (ncclNetPlugin_v8 …) and of what goes through them. NCCL is the caller. No distribution
// ships its header, so the declarations are ours; the numbers are checked below and are those of
// x86-64 and aarch64 Linux.
//
//   v8   NCCL 2.20   sizes are int
//   v9   NCCL 2.24   sizes are size_t; forceFlush, virtual devices, limits on sizes
//   v10  NCCL 2.26   a profiler's handle with each transfer, a traffic class with each connect
//   v11  NCCL 2.28   a context for each communicator, finalize; the class goes to init
//   v12  NCCL 2.30   rail and plane of a device; eight devices to a virtual one

#include <cstddef>
#include <cstdint>

namespace penstock::nccl {

// ncclResult_t.
enum class NcclResult : int {
  kSuccess = 0,
  kSystemError = 2,      // the kernel, the network
  kInternalError = 3,    // of the plugin
  kInvalidArgument = 4,  // of a call
  kInvalidUsage = 5,     // what the calls together ask for
  kRemoteError = 6,      // the peer
};

// ncclDebugLogLevel and ncclDebugLogSubSys, those used here.
inline constexpr int kLogWarn = 2, kLogInfo = 3;
inline constexpr unsigned long kLogInit = 1, kLogNet = 16;
using Logger = void (*)(int level, unsigned long subsystems, const char* file, int line,
                        const char* format, ...);

inline constexpr std::size_t kHandleBytes = 128;  // of listen()
inline constexpr int kPointerHost = 1, kPointerCuda = 2;
inline constexpr std::size_t kMaxRequests = 32;        // outstanding on a connection
inline constexpr std::uintptr_t kOptionalReceive = 1;  // what *request may hold when irecv() begins
inline constexpr int kUndefined = -1;

template <int Devices>
struct VirtualDevice {
  int count;
  int devices[Devices];
};
static_assert(sizeof(VirtualDevice<4>) == 20);

struct PropertiesV8 {
  const char* name;
  const char* pci_path;
  std::uint64_t guid;
  int pointers;  // kPointer… bits
  int registers_globally;
  int speed_mbps;
  int port;
  float latency_us;
  int max_comms;
  int max_receives;
  int device_type;
  int device_version;
};
static_assert(offsetof(PropertiesV8, pointers) == 24);
static_assert(offsetof(PropertiesV8, device_version) == 56);
static_assert(sizeof(PropertiesV8) == 64);

// v9 and v10; with one more field v11.
struct PropertiesV9 {
  const char* name;
  const char* pci_path;
  std::uint64_t guid;
  int pointers;
  int registers_globally;
  int force_flush;
  int speed_mbps;
  int port;
  float latency_us;
  int max_comms;
  int max_receives;
  int device_type;
  int device_version;
  VirtualDevice<4> parts;
  std::size_t max_p2p_bytes;
  std::size_t max_collective_bytes;
};
static_assert(offsetof(PropertiesV9, force_flush) == 32);
static_assert(offsetof(PropertiesV9, parts) == 64);
static_assert(offsetof(PropertiesV9, max_p2p_bytes) == 88);
static_assert(sizeof(PropertiesV9) == 104);

struct PropertiesV11 {
  PropertiesV9 common;
  int max_multi_request;
};
static_assert(offsetof(PropertiesV11, max_multi_request) == 104);
static_assert(sizeof(PropertiesV11) == 112);

struct PropertiesV12 {
  const char* name;
  const char* pci_path;
  std::uint64_t guid;
  int pointers;
  int registers_globally;
  int force_flush;
  int speed_mbps;
  int port;
  float latency_us;
  int max_comms;
  int max_receives;
  int device_type;
  int device_version;
  VirtualDevice<8> parts;
  std::size_t max_p2p_bytes;
  std::size_t max_collective_bytes;
  int max_multi_request;
  std::int16_t rail;
  std::int16_t plane;
};
static_assert(offsetof(PropertiesV12, parts) == 64);
static_assert(offsetof(PropertiesV12, max_p2p_bytes) == 104);
static_assert(offsetof(PropertiesV12, max_multi_request) == 120);
static_assert(offsetof(PropertiesV12, rail) == 124);
static_assert(offsetof(PropertiesV12, plane) == 126);
static_assert(sizeof(PropertiesV12) == 128);

struct CommConfig {  // v10 on
  int traffic_class;
};

// The tables. What a plugin leaves out is null. Handles of device code are opaque here: NCCL passes
// a place for one and a host plugin leaves it alone.
using RegisterCall = NcclResult (*)(void* comm, void* data, std::size_t bytes, int type,
                                    void** handle);
using RegisterDmabufCall = NcclResult (*)(void* comm, void* data, std::size_t bytes, int type,
                                          std::uint64_t offset, int fd, void** handle);
using CommHandleCall = NcclResult (*)(void* comm, void* handle);
using AcceptCall = NcclResult (*)(void* listen_comm, void** receive_comm, void** device_handle);
using FlushCall = NcclResult (*)(void* receive_comm, int count, void** data, int* sizes,
                                 void** handles, void** request);
using TestCall = NcclResult (*)(void* request, int* done, int* sizes);
using CloseCall = NcclResult (*)(void* comm);
using DeviceHandleCall = NcclResult (*)(void* comm, void* handle, void** device_handle);
using ConsumedCall = NcclResult (*)(void* receive_comm, int count, void* request);
using SendCall = NcclResult (*)(void* send_comm, void* data, std::size_t bytes, int tag,
                                void* handle, void* profile, void** request);
using ReceiveCall = NcclResult (*)(void* receive_comm, int count, void** data, std::size_t* sizes,
                                   int* tags, void** handles, void** profiles, void** request);

struct NetV8 {
  const char* name;
  NcclResult (*init)(Logger);
  NcclResult (*devices)(int* count);
  NcclResult (*properties)(int device, PropertiesV8*);
  NcclResult (*listen)(int device, void* handle, void** listen_comm);
  NcclResult (*connect)(int device, void* handle, void** send_comm, void** device_handle);
  AcceptCall accept;
  RegisterCall register_memory;
  RegisterDmabufCall register_dmabuf;
  CommHandleCall deregister;
  NcclResult (*send)(void* send_comm, void* data, int bytes, int tag, void* handle, void** request);
  NcclResult (*receive)(void* receive_comm, int count, void** data, int* sizes, int* tags,
                        void** handles, void** request);
  FlushCall flush;
  TestCall test;
  CloseCall close_send, close_receive, close_listen;
  DeviceHandleCall device_memory;
  ConsumedCall consumed;
};
static_assert(sizeof(NetV8) == 19 * sizeof(void*));
static_assert(offsetof(NetV8, send) == 10 * sizeof(void*));

struct NetV9 {
  const char* name;
  NcclResult (*init)(Logger);
  NcclResult (*devices)(int* count);
  NcclResult (*properties)(int device, PropertiesV9*);
  NcclResult (*listen)(int device, void* handle, void** listen_comm);
  NcclResult (*connect)(int device, void* handle, void** send_comm, void** device_handle);
  AcceptCall accept;
  RegisterCall register_memory;
  RegisterDmabufCall register_dmabuf;
  CommHandleCall deregister;
  NcclResult (*send)(void* send_comm, void* data, std::size_t bytes, int tag, void* handle,
                     void** request);
  NcclResult (*receive)(void* receive_comm, int count, void** data, std::size_t* sizes, int* tags,
                        void** handles, void** request);
  FlushCall flush;
  TestCall test;
  CloseCall close_send, close_receive, close_listen;
  DeviceHandleCall device_memory;
  ConsumedCall consumed;
  NcclResult (*make_virtual)(int* device, VirtualDevice<4>*);
};
static_assert(sizeof(NetV9) == 20 * sizeof(void*));

struct NetV10 {
  const char* name;
  NcclResult (*init)(Logger, void* profiler);
  NcclResult (*devices)(int* count);
  NcclResult (*properties)(int device, PropertiesV9*);
  NcclResult (*listen)(int device, void* handle, void** listen_comm);
  NcclResult (*connect)(int device, CommConfig*, void* handle, void** send_comm,
                        void** device_handle);
  AcceptCall accept;
  RegisterCall register_memory;
  RegisterDmabufCall register_dmabuf;
  CommHandleCall deregister;
  SendCall send;
  ReceiveCall receive;
  FlushCall flush;
  TestCall test;
  CloseCall close_send, close_receive, close_listen;
  DeviceHandleCall device_memory;
  ConsumedCall consumed;
  NcclResult (*make_virtual)(int* device, VirtualDevice<4>*);
};
static_assert(sizeof(NetV10) == 20 * sizeof(void*));

// v11 and v12 differ in what they call properties and virtual devices.
template <class Properties, int Devices>
struct NetWithContext {
  const char* name;
  NcclResult (*init)(void** context, std::uint64_t comm_id, CommConfig*, Logger, void* profiler);
  NcclResult (*devices)(int* count);
  NcclResult (*properties)(int device, Properties*);
  NcclResult (*listen)(void* context, int device, void* handle, void** listen_comm);
  NcclResult (*connect)(void* context, int device, void* handle, void** send_comm,
                        void** device_handle);
  AcceptCall accept;
  RegisterCall register_memory;
  RegisterDmabufCall register_dmabuf;
  CommHandleCall deregister;
  SendCall send;
  ReceiveCall receive;
  FlushCall flush;
  TestCall test;
  CloseCall close_send, close_receive, close_listen;
  DeviceHandleCall device_memory;
  ConsumedCall consumed;
  NcclResult (*make_virtual)(int* device, VirtualDevice<Devices>*);
  NcclResult (*finalize)(void* context);
  NcclResult (*set_attributes)(void* context, void* attributes);
};
using NetV11 = NetWithContext<PropertiesV11, 4>;
using NetV12 = NetWithContext<PropertiesV12, 8>;
static_assert(sizeof(NetV11) == 22 * sizeof(void*));
static_assert(offsetof(NetV12, finalize) == 20 * sizeof(void*));

}  // namespace penstock::nccl
