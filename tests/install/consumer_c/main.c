/* SPDX-FileCopyrightText: The Penstock authors
 * SPDX-License-Identifier: Apache-2.0 */

/* A C99 program of somebody else's, built against an installed Penstock with pkg-config alone: a
 * scheduler, a server and a worker in one process fit a line to points; a real job starts each with
 * its role on its own host. */

#include <penstock.h>
#include <stdio.h>
#include <stdlib.h>

#define POINTS 64

/* Says what failed and ends: a job that lost a role tells the others by itself. */
static void check(int status, const char* what) {
  if (status == PENSTOCK_OK) return;
  fprintf(stderr, "%s: %s\n", what, penstock_last_error());
  exit(1);
}

static DLTensor vector_of(float* data, int64_t* shape) {
  DLTensor tensor = {0};
  tensor.data = data;
  tensor.device.device_type = kDLCPU;
  tensor.ndim = 1;
  tensor.dtype.code = kDLFloat;
  tensor.dtype.bits = 32;
  tensor.dtype.lanes = 1;
  tensor.shape = shape;
  return tensor;
}

int main(int argc, char** argv) {
  float gradients[2] = {0, 0}, parameters[2] = {0, 0}; /* slope and offset */
  int64_t shape[1] = {2};
  DLTensor g = vector_of(gradients, shape), p = vector_of(parameters, shape);
  penstock_options* options;
  penstock_scheduler* scheduler;
  penstock_server* server;
  penstock_worker* worker;
  penstock_tensor* tensor;
  uint64_t round;
  int i;

  if (argc != 2) return fprintf(stderr, "usage: %s SECRET_FILE\n", argv[0]), 64;
  check(penstock_options_create(&options), "options");
  check(penstock_options_set(options, "secret_file", argv[1]), "secret_file");
  check(penstock_options_set(options, "transport", "tcp"), "transport");
  check(penstock_scheduler_start(options, &scheduler), "scheduler");
  check(penstock_options_set(options, "scheduler", penstock_scheduler_address(scheduler)),
        "scheduler");
  check(penstock_server_start(options, &server), "server");
  check(penstock_worker_start(options, &worker), "worker");

  check(penstock_tensor_create(1, &g, &p, &tensor), "tensor");
  check(penstock_tensor_set(tensor, "optimizer", "momentum:learning_rate=0.05"), "optimizer");
  check(penstock_worker_declare(worker, &tensor, 1), "declare");
  penstock_tensor_destroy(tensor);

  for (round = 1; round <= 400; ++round) {
    gradients[0] = gradients[1] = 0;
    for (i = 0; i < POINTS; ++i) { /* y = 3·x − 1, x from −1 to 1 */
      const float x = 2.0f * (float)i / (POINTS - 1) - 1.0f;
      const float error = parameters[0] * x + parameters[1] - (3.0f * x - 1.0f);
      gradients[0] += 2.0f * error * x / POINTS;
      gradients[1] += 2.0f * error / POINTS;
    }
    check(penstock_worker_push_pull(worker, 1, round), "push_pull");
    check(penstock_worker_wait(worker, 1, round, PENSTOCK_DEFAULT_TIMEOUT), "wait");
  }
  printf("y = %.3f x + %.3f\n", (double)parameters[0], (double)parameters[1]);

  check(penstock_worker_leave(worker), "leave");
  check(penstock_server_wait(server, PENSTOCK_DEFAULT_TIMEOUT), "server");
  check(penstock_scheduler_wait(scheduler, PENSTOCK_DEFAULT_TIMEOUT), "scheduler");
  penstock_worker_destroy(worker);
  penstock_server_destroy(server);
  penstock_scheduler_destroy(scheduler);
  penstock_options_destroy(options);
  return parameters[0] > 2.99f && parameters[0] < 3.01f && parameters[1] > -1.01f &&
                 parameters[1] < -0.99f
             ? 0
             : 1;
}
