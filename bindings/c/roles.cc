// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/c/error.h"
#include "bindings/c/options.h"
#include "bindings/c/request.h"
#include "bindings/cpp/key_states.h"
#include "bindings/cpp/publications.h"

using penstock::Status;
using penstock::c::guarded;
using penstock::c::null_argument;

struct penstock_server {
  penstock_server(penstock_handler handle_request, void* context)
      : requests([this, handle_request, context](penstock::Request request) {
          if (request.channel() == penstock::kKeyStateChannel)
            penstock::handle_key_state(node->server(), std::move(request));
          else if (request.channel() >= penstock::kFirstServiceChannel)
            publications.handle(std::move(request));
          else if (handle_request == nullptr)
            (void)request.fail({penstock::Code::kUnsupported, "this server has no handler"});
          else
            handle_request(new penstock_request{std::move(request)}, context);
        }) {}
  ~penstock_server() { publications.close(); }  // while the node can still answer
  penstock::RequestServer requests;             // both outlive the node
  penstock::Publications publications;
  std::unique_ptr<penstock::ServerNode> node;
  penstock::TimeNs call_timeout_ns = 0;
};

struct penstock_scheduler {
  std::unique_ptr<penstock::SchedulerNode> node;
  penstock::TimeNs call_timeout_ns;
};

namespace {

template <class Handle>
Status wait_for(Handle* handle, const char* name, int64_t timeout_ms) {
  if (handle == nullptr) return null_argument(name);
  const penstock::SystemClock clock;
  return handle->node->wait(
      penstock::c::deadline_ns(timeout_ms, clock.now_ns() + handle->call_timeout_ns));
}

}  // namespace

extern "C" {

int penstock_server_start(const penstock_options* options, penstock_server** server) {
  return guarded([&]() -> Status {
    if (options == nullptr) return null_argument("options");
    if (server == nullptr) return null_argument("server");
    auto handle = std::make_unique<penstock_server>(options->handler, options->context);
    penstock::NodeOptions node = options->node;
    node.messages = &handle->requests;
    PENSTOCK_ASSIGN_OR_RETURN(handle->node, penstock::ServerNode::start(node));
    handle->requests.attach(handle->node->server());
    handle->call_timeout_ns = options->node.call_timeout_ns;
    *server = handle.release();
    return {};
  });
}

int penstock_server_wait(penstock_server* server, int64_t timeout_ms) {
  return guarded([&] { return wait_for(server, "server", timeout_ms); });
}

void penstock_server_destroy(penstock_server* server) { delete server; }

int penstock_scheduler_start(const penstock_options* options, penstock_scheduler** scheduler) {
  return guarded([&]() -> Status {
    if (options == nullptr) return null_argument("options");
    if (scheduler == nullptr) return null_argument("scheduler");
    PENSTOCK_ASSIGN_OR_RETURN(auto node,
                              penstock::SchedulerNode::start(options->node, options->job));
    *scheduler = new penstock_scheduler{std::move(node), options->node.call_timeout_ns};
    return {};
  });
}

const char* penstock_scheduler_address(const penstock_scheduler* scheduler) {
  return scheduler == nullptr ? "" : scheduler->node->address().c_str();
}

int penstock_scheduler_wait(penstock_scheduler* scheduler, int64_t timeout_ms) {
  return guarded([&] { return wait_for(scheduler, "scheduler", timeout_ms); });
}

void penstock_scheduler_destroy(penstock_scheduler* scheduler) { delete scheduler; }
}
