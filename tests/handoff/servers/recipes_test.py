"""Every recipe of docs/handoff.md is tested, and says what a reader needs."""

import inspect
import tomllib
import unittest

import recipes
import server_case
import servers_test


class Recipes(unittest.TestCase):
    def setUp(self):
        self.recipes = recipes.read_all()

    def test_each_has_a_test_and_each_test_a_recipe(self):
        tested = {case.recipe_name for _, case in inspect.getmembers(servers_test, inspect.isclass)
                  if issubclass(case, server_case.ServerCase) and case is not server_case.ServerCase}
        self.assertEqual(tested, set(self.recipes))

    def test_each_is_one_app_with_a_graceful_end(self):
        self.assertEqual(len({recipe.app for recipe in self.recipes.values()}), len(self.recipes))
        for name, recipe in self.recipes.items():
            with self.subTest(name):
                spec = tomllib.loads(recipe.files["updagent.toml"])
                self.assertEqual((spec["strategy"], spec["version"]), ("handoff", recipes.VERSION))
                self.assertIn(recipes.PORT, spec["service"]["listener"][0]["address"])
                self.assertIn("drain_timeout", spec["service"])
                for path in recipe.node:
                    self.assertEqual(path, f"apps.d/{recipe.app}.toml")


if __name__ == "__main__":
    unittest.main()
