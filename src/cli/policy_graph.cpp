// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "page.hpp"
#include "page_data.hpp"
#include "table.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/control/graph.hpp"

namespace trireme::cli {
namespace {

bool has_graphviz() {
  const char* path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): one thread
  std::string rest = path == nullptr ? "" : path;
  while (!rest.empty()) {
    const std::size_t colon = std::min(rest.find(':'), rest.size());
    if (::access((rest.substr(0, colon) + "/dot").c_str(), X_OK) == 0) {
      return true;
    }
    rest.erase(0, colon + 1);
  }
  return false;
}

/// Runs Graphviz, which inherits stdout and writes the SVG there.
Status print_svg(const std::string& text) {
  if (!has_graphviz()) {
    return fail("--format svg needs Graphviz: no program 'dot' in PATH",
                "apt-get install graphviz, or use --format html");
  }
  std::fflush(stdout);
  std::FILE* pipe = ::popen("dot -Tsvg", "w");  // NOLINT(cert-env33-c): a constant command
  if (pipe == nullptr) {
    return fail_errno("cannot run dot");
  }
  const bool written = std::fwrite(text.data(), 1, text.size(), pipe) == text.size();
  const int status = ::pclose(pipe);
  return written && status == 0
             ? Status{}
             : Status(fail("dot failed to draw the graph", "--format dot prints its input"));
}

int draw(const Globals& globals, const std::string& format) {
  const auto drawn = drawn_policy(globals);
  if (!drawn) {
    return report(globals, drawn.error());
  }
  if (globals.json || format == "json") {
    print_json(control::to_json(drawn->graph));
  } else if (format == "html") {
    const auto data = page_from_disk(globals, *drawn);
    if (!data) {
      return report(globals, data.error());
    }
    const std::string text = page(*data);
    std::fwrite(text.data(), 1, text.size(), stdout);
  } else if (format == "svg") {
    if (Status svg = print_svg(policy::dot(drawn->graph)); !svg) {
      return report(globals, svg.error());
    }
  } else {
    fmt::print("{}", printable_lines(policy::dot(drawn->graph)));
  }
  return kYes;
}

}  // namespace

void add_policy_graph(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "graph",
                                  "Draw which connections are allowed, and which were seen");
  const auto format = std::make_shared<std::string>("dot");
  command->add_option("--format", *format, "dot, svg (needs Graphviz), html or json")
      ->check(CLI::IsMember({"dot", "svg", "html", "json"}))
      ->type_name("FORMAT")
      ->capture_default_str();
  command->footer("Example: trirectl policy graph --format html >graph.html");
  command->callback([&globals, &action, format] {
    action = [&globals, format] { return draw(globals, *format); };
  });
}

}  // namespace trireme::cli
