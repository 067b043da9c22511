// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// A program of 2015: Start() and Finalize() without arguments, roles asked before; numbers and
// strings between all kinds of nodes, answered at once, late, and from other threads.

#include "ps/ps.h"

namespace {

const int kRequests = 30;

std::string Body(int i) { return "request " + std::to_string(i) + std::string(i % 7 * 1000, 'b'); }

}  // namespace

int main(int argc, char* argv[]) {
  (void)argc;
  const bool scheduler = ps::IsScheduler();
  const bool server = ps::IsServer();
  ps::SimpleApp* app = new ps::SimpleApp(0);
  std::atomic<int> handled(0);
  std::vector<std::thread> threads;
  std::mutex mutex;
  app->set_request_handle([&](const ps::SimpleData& request, ps::SimpleApp* self) {
    CHECK_EQ(self, app);
    CHECK_EQ(request.body, Body(request.head));
    ++handled;
    if (request.head % 3 == 0) {
      const std::lock_guard<std::mutex> lock(mutex);
      threads.emplace_back([request, self]() { self->Response(request, "late " + request.body); });
    } else {
      self->Response(request, "soon " + request.body);
    }
  });
  std::atomic<int> answered(0);
  app->set_response_handle([&](const ps::SimpleData& response, ps::SimpleApp*) {
    const std::string when = response.head % 3 == 0 ? "late " : "soon ";
    CHECK_EQ(response.body, when + Body(response.head));
    ++answered;
  });
  ps::Start(argv[0]);
  CHECK_EQ(scheduler, ps::IsScheduler());
  CHECK_EQ(server, ps::IsServer());

  // Everybody asks everybody else's group, the scheduler all at once.
  const int group = scheduler ? ps::kWorkerGroup + ps::kServerGroup
                    : server  ? ps::kWorkerGroup
                              : ps::kServerGroup;
  const int members = static_cast<int>(ps::Postoffice::Get()->GetNodeIDs(group).size());
  std::vector<int> timestamps;
  for (int i = 0; i < kRequests; ++i) timestamps.push_back(app->Request(i, Body(i), group));
  for (int timestamp : timestamps) app->Wait(timestamp);
  ps::Postoffice::Get()->Barrier(ps::kScheduler + ps::kServerGroup + ps::kWorkerGroup);
  CHECK_EQ(answered.load(), kRequests * members);
  // One node by its id, and the scheduler.
  app->Wait(app->Request(1, Body(1), ps::kScheduler));
  app->Wait(app->Request(3, Body(3), ps::Postoffice::WorkerRankToID(ps::NumWorkers() - 1)));
  CHECK_EQ(answered.load(), kRequests * members + 2);
  ps::Finalize();
  {
    const std::lock_guard<std::mutex> lock(mutex);
    for (std::thread& thread : threads) thread.join();
  }
  const int others = server ? ps::NumWorkers() : scheduler ? 0 : ps::NumServers();
  CHECK_GE(handled.load(), scheduler ? 1 : kRequests * (others + 1));
  delete app;
  std::cout << "good" << std::endl;
  return 0;
}
