// SPDX-License-Identifier: Apache-2.0
// The graph as a page: what names of workloads can do in it.
#include "trireme/control/graph.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme::control {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string page_of(const std::string& name) {
  policy::Graph graph;
  graph.nodes.push_back({.text = name,
                         .kind = policy::Endpoint::Kind::workload,
                         .members = {name + "-1"},
                         .workloads = 1,
                         .parties = {}});
  return graph_page(graph, "title");
}

TEST(GraphPage, NamesCannotEndTheScript) {
  const std::string page = page_of("app=</script><!--");
  EXPECT_THAT(page, HasSubstr("app=\\u003c/script>\\u003c!--"));
  EXPECT_THAT(page, Not(HasSubstr("app=</script>")));
}

/// JSON would write the character as an escape, and the script of the page restores it.
TEST(GraphPage, NamesCannotChangeTheDirectionOfText) {
  const std::string page = page_of(
      "app=\xE2\x80\xAE"
      "bew");
  EXPECT_THAT(page, HasSubstr("app=?bew\""));
  EXPECT_THAT(page, HasSubstr("app=?bew-1"));
  EXPECT_THAT(page, Not(HasSubstr("202e")));
  EXPECT_THAT(page_of("app=b\xC3\xA4r"), HasSubstr("app=b\\u00e4r")) << "letters stay";
}

}  // namespace
}  // namespace trireme::control
