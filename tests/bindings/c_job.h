// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Tensors and a whole job through the C ABI.

#include <gtest/gtest.h>

#include <vector>

#include "bindings/c/penstock.h"

namespace penstock::test {

struct CTensor {
  explicit CTensor(std::vector<std::int64_t> dimensions) : shape(std::move(dimensions)) {
    std::int64_t elements = 1;
    for (const std::int64_t size : shape) elements *= std::max<std::int64_t>(size, 1);
    data.resize(static_cast<std::size_t>(elements));
    view.data = data.data();
    view.device = {kDLCPU, 0};
    view.ndim = static_cast<int>(shape.size());
    view.dtype = {kDLFloat, 32, 1};
    view.shape = shape.data();
  }
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  std::vector<float> data;
  DLTensor view{};
};

struct CJob {
  explicit CJob(penstock_handler handler = nullptr, void* context = nullptr) {
    penstock_options_create(&options);
    for (const auto& [name, value] :
         {std::pair{"insecure", "1"}, {"transport", "tcp"}, {"timeout_ms", "20000"}, {"pin", "0"}})
      penstock_options_set(options, name, value);
    EXPECT_EQ(penstock_scheduler_start(options, &scheduler), PENSTOCK_OK) << penstock_last_error();
    penstock_options_set(options, "scheduler", penstock_scheduler_address(scheduler));
    penstock_options_set_handler(options, handler, context);
    EXPECT_EQ(penstock_server_start(options, &server), PENSTOCK_OK) << penstock_last_error();
    EXPECT_EQ(penstock_worker_start(options, &worker), PENSTOCK_OK) << penstock_last_error();
  }
  ~CJob() {
    EXPECT_EQ(penstock_worker_leave(worker), PENSTOCK_OK) << penstock_last_error();
    EXPECT_EQ(penstock_server_wait(server, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_OK)
        << penstock_last_error();
    EXPECT_EQ(penstock_scheduler_wait(scheduler, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_OK)
        << penstock_last_error();
    penstock_worker_destroy(worker);
    penstock_server_destroy(server);
    penstock_scheduler_destroy(scheduler);
    penstock_options_destroy(options);
  }
  penstock_options* options = nullptr;
  penstock_scheduler* scheduler = nullptr;
  penstock_server* server = nullptr;
  penstock_worker* worker = nullptr;
};

}  // namespace penstock::test
