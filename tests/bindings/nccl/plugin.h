// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The plugin as NCCL sees it: a library, a symbol for each version, a table behind it. The
// functions of every version under one set of names; each goes through that version's table and
// types.

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "bindings/nccl/abi.h"

namespace penstock::test {

using nccl::NcclResult;
using HandleBytes = std::array<std::byte, nccl::kHandleBytes>;

class Plugin {
 public:
  static std::unique_ptr<Plugin> load(int version);  // null, with a test failure, when it cannot
  virtual ~Plugin() = default;

  virtual const char* name() = 0;
  virtual NcclResult init() = 0;
  virtual NcclResult finalize() = 0;  // before v11 there is none
  virtual NcclResult devices(int* count) = 0;
  virtual NcclResult properties(int device, nccl::PropertiesV12* out) = 0;
  virtual NcclResult listen(int device, HandleBytes& handle, void** comm) = 0;
  virtual NcclResult connect(int device, HandleBytes& handle, void** comm) = 0;
  virtual NcclResult accept(void* listener, void** comm) = 0;
  virtual NcclResult register_memory(void* comm, void* data, std::size_t bytes, int type,
                                     void** handle) = 0;
  virtual NcclResult deregister(void* comm, void* handle) = 0;
  virtual NcclResult send(void* comm, void* data, std::size_t bytes, int tag, void* handle,
                          void** request) = 0;
  // `*request` goes in as it is.
  virtual NcclResult receive(void* comm, int count, void** data, std::size_t* sizes, int* tags,
                             void** handles, void** request) = 0;
  virtual NcclResult flush(void* comm, int count, void** data, int* sizes, void** handles,
                           void** request) = 0;
  virtual NcclResult test(void* request, int* done, int* sizes) = 0;
  virtual NcclResult close_send(void* comm) = 0;
  virtual NcclResult close_receive(void* comm) = 0;
  virtual NcclResult close_listen(void* comm) = 0;
};

// What the plugin logged, as NCCL would print it; forgotten by the call.
std::string take_log();

// The path of the library under test, and a symbol in it; null where it has none.
std::string plugin_path();
void* plugin_symbol(const char* name);

}  // namespace penstock::test
