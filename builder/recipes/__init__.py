"""The recipes that have a name, as `module:function`; a function returns a frozen `Recipe`."""

RECIPES: dict[str, str] = {
    "tiny": "builder.recipes.tiny:tiny",
}
