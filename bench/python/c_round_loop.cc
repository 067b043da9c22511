// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// c_round_loop ELEMENTS ROUNDS: what overhead.py does in Python, by the C ABI. A job in this
// process; prints the median nanoseconds of a round and of looking at a round that is over.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "bindings/c/penstock.h"

namespace {

void check(int status) {
  if (status == PENSTOCK_OK) return;
  std::fprintf(stderr, "%s\n", penstock_last_error());
  std::exit(1);
}

double now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<double>(std::chrono::nanoseconds(now).count());
}

double median(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

DLTensor vector_of(std::vector<float>& values, std::int64_t& elements) {
  DLTensor tensor{};
  tensor.data = values.data();
  tensor.device.device_type = kDLCPU;
  tensor.ndim = 1;
  tensor.dtype = {kDLFloat, 32, 1};
  tensor.shape = &elements;
  return tensor;
}

void measure(penstock_worker* worker, std::uint64_t rounds) {
  std::vector<double> whole;
  std::vector<double> look;
  for (std::uint64_t round = 1; round <= rounds; ++round) {
    const double start = now_ns();
    check(penstock_worker_push_pull(worker, 1, round));
    check(penstock_worker_wait(worker, 1, round, PENSTOCK_DEFAULT_TIMEOUT));
    const double over = now_ns();
    check(penstock_worker_wait(worker, 1, round, PENSTOCK_DEFAULT_TIMEOUT));
    look.push_back(now_ns() - over);
    whole.push_back(over - start);
  }
  std::printf("%.0f %.0f\n", median(whole), median(look));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: c_round_loop ELEMENTS ROUNDS\n"), 64;
  std::int64_t elements = std::atoll(argv[1]);
  std::vector<float> gradients(static_cast<std::size_t>(elements), 1.0F);
  std::vector<float> parameters(gradients.size());
  penstock_options* options = nullptr;
  penstock_scheduler* scheduler = nullptr;
  penstock_server* server = nullptr;
  penstock_worker* worker = nullptr;
  penstock_tensor* tensor = nullptr;
  check(penstock_options_create(&options));
  check(penstock_options_set(options, "insecure", "1"));
  check(penstock_options_set(options, "transport", "tcp"));
  check(penstock_scheduler_start(options, &scheduler));
  check(penstock_options_set(options, "scheduler", penstock_scheduler_address(scheduler)));
  check(penstock_server_start(options, &server));
  check(penstock_worker_start(options, &worker));
  const DLTensor g = vector_of(gradients, elements);
  const DLTensor p = vector_of(parameters, elements);
  check(penstock_tensor_create(1, &g, &p, &tensor));
  check(penstock_worker_declare(worker, &tensor, 1));
  penstock_tensor_destroy(tensor);
  measure(worker, static_cast<std::uint64_t>(std::atoll(argv[2])));
  check(penstock_worker_leave(worker));
  check(penstock_server_wait(server, PENSTOCK_DEFAULT_TIMEOUT));
  penstock_worker_destroy(worker);
  penstock_server_destroy(server);
  penstock_scheduler_destroy(scheduler);
  penstock_options_destroy(options);
  return 0;
}
