// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/bindings/nccl/plugin.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace penstock::test {
namespace {

using namespace nccl;

std::mutex log_mutex;
std::string log_lines;

void log_line(int /*level*/, unsigned long /*subsystems*/, const char* /*file*/, int /*line*/,
              const char* format, ...) {
  std::array<char, 1024> text{};
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text.data(), text.size(), format, arguments);
  va_end(arguments);
  const std::lock_guard lock(log_mutex);
  log_lines += text.data();
  log_lines += '\n';
}

template <class Table>
constexpr bool kInts = std::is_same_v<Table, NetV8>;
template <class Table>
constexpr bool kProfiles = !kInts<Table> && !std::is_same_v<Table, NetV9>;
template <class Table>
constexpr bool kContexts = std::is_same_v<Table, NetV11> || std::is_same_v<Table, NetV12>;

template <class Wide>
void widen(const PropertiesV8& p, Wide& out) {
  out.name = p.name, out.pci_path = p.pci_path, out.guid = p.guid, out.pointers = p.pointers;
  out.registers_globally = p.registers_globally, out.speed_mbps = p.speed_mbps;
  out.port = p.port, out.latency_us = p.latency_us, out.max_comms = p.max_comms;
  out.max_receives = p.max_receives, out.device_type = p.device_type;
  out.device_version = p.device_version;
  // What NCCL fills in itself.
  out.max_p2p_bytes = std::size_t{1} << 30, out.max_collective_bytes = std::size_t{1} << 29;
  out.parts.count = 1;
  out.max_multi_request = 1, out.rail = out.plane = -1;
}
template <class Wide>
void widen(const PropertiesV9& p, Wide& out) {
  widen(PropertiesV8{p.name, p.pci_path, p.guid, p.pointers, p.registers_globally, p.speed_mbps,
                     p.port, p.latency_us, p.max_comms, p.max_receives, p.device_type,
                     p.device_version},
        out);
  out.force_flush = p.force_flush;
  out.parts.count = p.parts.count;
  for (int i = 0; i < p.parts.count && i < 4; ++i) out.parts.devices[i] = p.parts.devices[i];
  out.max_p2p_bytes = p.max_p2p_bytes, out.max_collective_bytes = p.max_collective_bytes;
}
template <class Wide>
void widen(const PropertiesV11& p, Wide& out) {
  widen(p.common, out);
  out.max_multi_request = p.max_multi_request;
}
template <class Wide>
void widen(const PropertiesV12& p, Wide& out) {
  out = p;
}

template <class Table, class Properties>
class TablePlugin final : public Plugin {
 public:
  explicit TablePlugin(Table* table) : table_(*table) {}

  const char* name() override { return table_.name; }
  NcclResult init() override {
    CommConfig config{-1};
    if constexpr (kContexts<Table>)
      return table_.init(&context_, 0x1234, &config, log_line, nullptr);
    else if constexpr (kProfiles<Table>)
      return table_.init(log_line, nullptr);
    else
      return table_.init(log_line);
  }
  NcclResult finalize() override {
    if constexpr (kContexts<Table>) return table_.finalize(context_);
    return NcclResult::kSuccess;
  }
  NcclResult devices(int* count) override { return table_.devices(count); }
  NcclResult properties(int device, PropertiesV12* out) override {
    Properties own;
    std::memset(static_cast<void*>(&own), 0xee, sizeof own);  // what is not set shows
    const NcclResult result = table_.properties(device, &own);
    *out = {};
    if (result == NcclResult::kSuccess) widen(own, *out);
    return result;
  }
  NcclResult listen(int device, HandleBytes& handle, void** comm) override {
    if constexpr (kContexts<Table>)
      return table_.listen(context_, device, handle.data(), comm);
    else
      return table_.listen(device, handle.data(), comm);
  }
  NcclResult connect(int device, HandleBytes& handle, void** comm) override {
    void* offload = nullptr;
    CommConfig config{-1};
    if constexpr (kContexts<Table>)
      return table_.connect(context_, device, handle.data(), comm, &offload);
    else if constexpr (kProfiles<Table>)
      return table_.connect(device, &config, handle.data(), comm, &offload);
    else
      return table_.connect(device, handle.data(), comm, &offload);
  }
  NcclResult accept(void* listener, void** comm) override {
    void* offload = nullptr;
    return table_.accept(listener, comm, &offload);
  }
  NcclResult register_memory(void* comm, void* data, std::size_t bytes, int type,
                             void** handle) override {
    return table_.register_memory(comm, data, bytes, type, handle);
  }
  NcclResult deregister(void* comm, void* handle) override {
    return table_.deregister(comm, handle);
  }
  NcclResult send(void* comm, void* data, std::size_t bytes, int tag, void* handle,
                  void** request) override {
    if constexpr (kInts<Table>)
      return table_.send(comm, data, static_cast<int>(bytes), tag, handle, request);
    else if constexpr (kProfiles<Table>)
      return table_.send(comm, data, bytes, tag, handle, nullptr, request);
    else
      return table_.send(comm, data, bytes, tag, handle, request);
  }
  NcclResult receive(void* comm, int count, void** data, std::size_t* sizes, int* tags,
                     void** handles, void** request) override {
    std::vector<int> ints(sizes, sizes + count);
    std::vector<void*> profiles(static_cast<std::size_t>(count), nullptr);
    if constexpr (kInts<Table>)
      return table_.receive(comm, count, data, ints.data(), tags, handles, request);
    else if constexpr (kProfiles<Table>)
      return table_.receive(comm, count, data, sizes, tags, handles, profiles.data(), request);
    else
      return table_.receive(comm, count, data, sizes, tags, handles, request);
  }
  NcclResult flush(void* comm, int count, void** data, int* sizes, void** handles,
                   void** request) override {
    return table_.flush(comm, count, data, sizes, handles, request);
  }
  NcclResult test(void* request, int* done, int* sizes) override {
    return table_.test(request, done, sizes);
  }
  NcclResult close_send(void* comm) override { return table_.close_send(comm); }
  NcclResult close_receive(void* comm) override { return table_.close_receive(comm); }
  NcclResult close_listen(void* comm) override { return table_.close_listen(comm); }

 private:
  Table& table_;
  void* context_ = nullptr;
};

template <class Table, class Properties>
std::unique_ptr<Plugin> make(void* symbol) {
  return std::make_unique<TablePlugin<Table, Properties>>(static_cast<Table*>(symbol));
}

void* library() {
  static void* const loaded = [] {
    // The plugin's choice of transport is the environment's, as it is for users.
    ::setenv("PENSTOCK_NCCL_TRANSPORT", PENSTOCK_TEST_TRANSPORT, 1);
    ::setenv("PENSTOCK_NCCL_INTERFACES", "lo", 1);
    void* opened = ::dlopen(plugin_path().c_str(), RTLD_NOW | RTLD_LOCAL);
    if (opened == nullptr) ADD_FAILURE() << ::dlerror();
    return opened;
  }();
  return loaded;
}

}  // namespace

std::string plugin_path() { return PENSTOCK_TEST_PLUGIN; }

void* plugin_symbol(const char* name) {
  return library() == nullptr ? nullptr : ::dlsym(library(), name);
}

std::unique_ptr<Plugin> Plugin::load(int version) {
  void* symbol = plugin_symbol(fmt::format("ncclNetPlugin_v{}", version).c_str());
  EXPECT_NE(symbol, nullptr) << "no table of version " << version;
  if (symbol == nullptr) return nullptr;
  switch (version) {
    case 8:
      return make<NetV8, PropertiesV8>(symbol);
    case 9:
      return make<NetV9, PropertiesV9>(symbol);
    case 10:
      return make<NetV10, PropertiesV9>(symbol);
    case 11:
      return make<NetV11, PropertiesV11>(symbol);
    case 12:
      return make<NetV12, PropertiesV12>(symbol);
    default:
      ADD_FAILURE() << "no version " << version;
      return nullptr;
  }
}

std::string take_log() {
  const std::lock_guard lock(log_mutex);
  return std::exchange(log_lines, {});
}

}  // namespace penstock::test
