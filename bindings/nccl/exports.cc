// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The tables NCCL looks up, and the functions in them: arguments become those of Net, a Status
// becomes a number and a line in NCCL's log. Nothing throws into NCCL.

#include <algorithm>
#include <array>
#include <exception>

#include "bindings/nccl/log.h"
#include "bindings/nccl/net.h"

namespace penstock::nccl {
namespace {

constexpr const char* kName = "Penstock";
constexpr int kMaxComms = 1 << 16;  // descriptors run out before

Net& net() {
  static Net instance;
  return instance;
}

template <class Call>
NcclResult guarded(const char* asked, Call call) {
  try {
    return answer(asked, call());
  } catch (const std::exception& error) {  // no memory
    return answer(asked, Status(Code::kExhausted, error.what()));
  }
}

std::span<std::byte, kHandleBytes> handle_bytes(void* handle) {
  return std::span<std::byte, kHandleBytes>(static_cast<std::byte*>(handle), kHandleBytes);
}

// Closes the devices when the library is unloaded or the process ends.
struct Closer {
  ~Closer() { net().close(); }
};

NcclResult init(Logger logger) {
  log_to(logger);
  return guarded("init", []() -> Status {
    PENSTOCK_RETURN_IF_ERROR(net().init());
    static const Closer closer;  // made after what the devices stand on, so it goes before
    return {};
  });
}
NcclResult init_profiled(Logger logger, void* /*profiler*/) { return init(logger); }
// Nothing differs between communicators, so the context is the same for all.
NcclResult init_context(void** context, std::uint64_t /*comm_id*/, CommConfig* /*config*/,
                        Logger logger, void* /*profiler*/) {
  const NcclResult result = init(logger);
  if (result == NcclResult::kSuccess) *context = &net();
  return result;
}
NcclResult finalize(void* /*context*/) { return NcclResult::kSuccess; }

NcclResult devices(int* count) {
  *count = net().device_count();
  return NcclResult::kSuccess;
}

template <class Properties>
void fill_common(const PortFacts& facts, Properties& p) {
  p.name = facts.name.c_str();
  p.pci_path = facts.pci_path.empty() ? nullptr : facts.pci_path.c_str();
  p.guid = facts.guid;
  p.pointers = kPointerHost | (facts.reaches_gpus ? kPointerCuda : 0);
  p.speed_mbps = facts.speed_mbps;
  p.port = facts.port;
  p.max_comms = kMaxComms;
  p.max_receives = static_cast<int>(kMaxReceives);
}
template <class Properties>
void fill_limits(int device, Properties& p) {
  p.parts.count = 1;
  p.parts.devices[0] = device;
  p.max_p2p_bytes = p.max_collective_bytes = kMaxBytes;
}
void fill(const PortFacts& facts, int /*device*/, PropertiesV8& p) { fill_common(facts, p); }
void fill(const PortFacts& facts, int device, PropertiesV9& p) {
  fill_common(facts, p);
  fill_limits(device, p);
}
void fill(const PortFacts& facts, int device, PropertiesV11& p) {
  fill(facts, device, p.common);
  p.max_multi_request = 1;
}
void fill(const PortFacts& facts, int device, PropertiesV12& p) {
  fill_common(facts, p);
  fill_limits(device, p);
  p.max_multi_request = 1;
  p.rail = p.plane = kUndefined;
}
template <class Properties>
NcclResult properties(int index, Properties* out) {
  return guarded("getProperties", [&]() -> Status {
    PENSTOCK_ASSIGN_OR_RETURN(const NetDevice* device, net().device(index));
    *out = {};  // what is not set is 0: not global, no flush forced, no latency, a host's device
    fill(device->facts(), index, *out);
    return {};
  });
}

NcclResult listen(int device, void* handle, void** listen_comm) {
  return guarded("listen", [&]() -> Status {
    PENSTOCK_ASSIGN_OR_RETURN(*listen_comm, net().listen(device, handle_bytes(handle)));
    return {};
  });
}
NcclResult listen_in(void* /*context*/, int device, void* handle, void** listen_comm) {
  return listen(device, handle, listen_comm);
}

// Comms go through void*, so they go as Comm* both ways.
NcclResult connect(int device, void* handle, void** send_comm, void** /*device_handle*/) {
  *send_comm = nullptr;
  return guarded("connect", [&]() -> Status {
    PENSTOCK_ASSIGN_OR_RETURN(Comm * comm, net().connect(device, handle_bytes(handle)));
    *send_comm = comm;
    return {};
  });
}
// Neither provider knows traffic classes.
NcclResult connect_class(int device, CommConfig* /*config*/, void* handle, void** send_comm,
                         void** device_handle) {
  return connect(device, handle, send_comm, device_handle);
}
NcclResult connect_in(void* /*context*/, int device, void* handle, void** send_comm,
                      void** device_handle) {
  return connect(device, handle, send_comm, device_handle);
}

NcclResult accept(void* listen_comm, void** receive_comm, void** /*device_handle*/) {
  *receive_comm = nullptr;
  return guarded("accept", [&]() -> Status {
    PENSTOCK_ASSIGN_OR_RETURN(Comm * comm, net().accept(*static_cast<ListenComm*>(listen_comm)));
    *receive_comm = comm;
    return {};
  });
}

NcclResult register_memory(void* comm, void* data, std::size_t bytes, int type, void** handle) {
  return guarded("regMr", [&]() -> Status {
    if (data == nullptr || bytes == 0 || (type != kPointerHost && type != kPointerCuda))
      return Status(Code::kInvalidArgument, "no bytes, or neither host memory nor a GPU's");
    PENSTOCK_ASSIGN_OR_RETURN(*handle, net().register_memory(*static_cast<Comm*>(comm),
                                                             {static_cast<std::byte*>(data), bytes},
                                                             type == kPointerCuda));
    return {};
  });
}
NcclResult deregister(void* comm, void* handle) {
  return guarded("deregMr", [&]() -> Status {
    if (handle == nullptr) return {};
    return net().deregister(*static_cast<Comm*>(comm), static_cast<MemoryHandle*>(handle));
  });
}

NcclResult send_any(void* send_comm, void* data, std::size_t bytes, int tag, void* handle,
                    void** request) {
  *request = nullptr;
  return guarded("isend", [&]() -> Status {
    auto& comm = static_cast<SendComm&>(*static_cast<Comm*>(send_comm));
    PENSTOCK_ASSIGN_OR_RETURN(*request,
                              comm.send(data, bytes, tag, static_cast<MemoryHandle*>(handle)));
    return {};
  });
}
NcclResult send_int(void* send_comm, void* data, int bytes, int tag, void* handle, void** request) {
  return send_any(send_comm, data, static_cast<std::size_t>(bytes), tag, handle, request);
}
NcclResult send_profiled(void* send_comm, void* data, std::size_t bytes, int tag, void* handle,
                         void* /*profile*/, void** request) {
  return send_any(send_comm, data, bytes, tag, handle, request);
}

// `*request` may hold kOptionalReceive: that the completion may be told early. It is told when the
// bytes are there.
template <class Size>
NcclResult receive_any(void* receive_comm, int count, void** data, Size* sizes, int* tags,
                       void** handles, void** request) {
  *request = nullptr;
  return guarded("irecv", [&]() -> Status {
    auto& comm = static_cast<ReceiveComm&>(*static_cast<Comm*>(receive_comm));
    if (count < 1 || static_cast<std::size_t>(count) > kMaxReceives)
      return Status(Code::kInvalidArgument, "more buffers in a receive than maxRecvs, or none");
    std::array<ReceiveComm::Buffer, kMaxReceives> buffers;
    for (int i = 0; i < count; ++i)
      buffers[static_cast<std::size_t>(i)] = {data[i], static_cast<std::uint64_t>(sizes[i]),
                                              tags[i], static_cast<MemoryHandle*>(handles[i])};
    PENSTOCK_ASSIGN_OR_RETURN(
        *request, comm.receive(std::span(buffers).first(static_cast<std::size_t>(count))));
    return {};
  });
}
NcclResult receive_profiled(void* receive_comm, int count, void** data, std::size_t* sizes,
                            int* tags, void** handles, void** /*profiles*/, void** request) {
  return receive_any(receive_comm, count, data, sizes, tags, handles, request);
}

// The driver is asked at once, so there is never a request to wait for.
NcclResult flush(void* /*receive_comm*/, int count, void** /*data*/, int* sizes, void** handles,
                 void** request) {
  *request = nullptr;
  return guarded("iflush", [&]() -> Status {
    for (int i = 0; i < count; ++i) {
      if (sizes[i] == 0 || handles[i] == nullptr) continue;
      PENSTOCK_RETURN_IF_ERROR(static_cast<MemoryHandle*>(handles[i])->buffer.region->flush());
    }
    return {};
  });
}

NcclResult test(void* request, int* done, int* sizes) {
  *done = 0;
  return guarded("test", [&]() -> Status {
    Request& asked = *static_cast<Request*>(request);
    PENSTOCK_ASSIGN_OR_RETURN(const bool over, asked.comm->test(asked, sizes));
    *done = over ? 1 : 0;
    return {};
  });
}

NcclResult close_comm(void* comm) {
  return guarded("close", [&]() -> Status {
    if (comm != nullptr) net().close(static_cast<Comm*>(comm));
    return {};
  });
}
NcclResult close_listener(void* listen_comm) {
  return guarded("closeListen", [&]() -> Status {
    if (listen_comm != nullptr) net().close(static_cast<ListenComm*>(listen_comm));
    return {};
  });
}

// What the versions have in common, by name; null: device code, virtual devices and dma-buf
// descriptors of NCCL's, which register_memory does without.
template <class Table>
constexpr Table common() {
  Table table{};
  table.name = kName;
  table.devices = devices;
  table.accept = accept;
  table.register_memory = register_memory;
  table.deregister = deregister;
  table.flush = flush;
  table.test = test;
  table.close_send = table.close_receive = close_comm;
  table.close_listen = close_listener;
  return table;
}

constexpr NetV8 table_v8() {
  NetV8 table = common<NetV8>();
  table.init = init;
  table.properties = properties<PropertiesV8>;
  table.listen = listen;
  table.connect = connect;
  table.send = send_int;
  table.receive = receive_any<int>;
  return table;
}

constexpr NetV9 table_v9() {
  NetV9 table = common<NetV9>();
  table.init = init;
  table.properties = properties<PropertiesV9>;
  table.listen = listen;
  table.connect = connect;
  table.send = send_any;
  table.receive = receive_any<std::size_t>;
  return table;
}

constexpr NetV10 table_v10() {
  NetV10 table = common<NetV10>();
  table.init = init_profiled;
  table.properties = properties<PropertiesV9>;
  table.listen = listen;
  table.connect = connect_class;
  table.send = send_profiled;
  table.receive = receive_profiled;
  return table;
}

template <class Table, class Properties>
constexpr Table table_with_context() {
  Table table = common<Table>();
  table.init = init_context;
  table.properties = properties<Properties>;
  table.listen = listen_in;
  table.connect = connect_in;
  table.send = send_profiled;
  table.receive = receive_profiled;
  table.finalize = finalize;
  return table;
}

}  // namespace
}  // namespace penstock::nccl

// Data, not constants: NCCL's own pointers to them are not const.
#define PENSTOCK_EXPORT __attribute__((visibility("default")))
extern "C" {
PENSTOCK_EXPORT constinit penstock::nccl::NetV8 ncclNetPlugin_v8 = penstock::nccl::table_v8();
PENSTOCK_EXPORT constinit penstock::nccl::NetV9 ncclNetPlugin_v9 = penstock::nccl::table_v9();
PENSTOCK_EXPORT constinit penstock::nccl::NetV10 ncclNetPlugin_v10 = penstock::nccl::table_v10();
PENSTOCK_EXPORT constinit penstock::nccl::NetV11 ncclNetPlugin_v11 =
    penstock::nccl::table_with_context<penstock::nccl::NetV11, penstock::nccl::PropertiesV11>();
PENSTOCK_EXPORT constinit penstock::nccl::NetV12 ncclNetPlugin_v12 =
    penstock::nccl::table_with_context<penstock::nccl::NetV12, penstock::nccl::PropertiesV12>();
}
